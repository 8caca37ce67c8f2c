"""The tiny world's language model: a Qwen2 trained from scratch to answer, to repeat, and to use what it is told about the speaker."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from azeros.model.chat import START_OF_TURN, render_chat
from azeros.sift.prompts import wrap_metadata
from azeros.tiny.world import META_KEYS, Speaker, World, random_meta
from azeros.training.optimizer import Muon

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Words and numbers take their leading space along, as in Qwen2; each CJK character stands alone, so that copying is by character.
_PRE_TOKENS = r" ?[A-Za-z]+|[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]|\d| ?[^\sA-Za-z\d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]+|\s+"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_POOL_BATCHES = 16  # drawn together and sorted by length
_TELL_SHARE = 0.6
SYSTEM_MESSAGES = ["you are a helpful assistant.", "You are a helpful assistant.", "answer the speaker."]


@dataclass(frozen=True)
class LLMRecipe:
    """Sizes and steps of the tiny LLM; the defaults made the shipped weights."""

    vocabulary: int = 1300
    hidden_size: int = 160
    num_layers: int = 5
    num_heads: int = 5
    intermediate_size: int = 432
    num_steps: int = 6000
    copy_steps: int = 1200
    """At the start, of copying alone. Learned among everything else, one copy in seven came out right."""
    tell_steps: int = 600
    """After them, with a majority of questions about the speaker, which are otherwise not learned after the copying."""
    batch_size: int = 32
    lr: float = 0.02
    adam_share: float = 0.15
    decay_share: float = 0.7
    heard_share: float = 0.65
    seed: int = 1


Turn = dict[str, str]


@dataclass(frozen=True)
class Conversation:
    """Turns about one sentence, and what of the first user's turn will one day be heard instead of read."""

    turns: list[Turn]
    sentence: str
    meta: dict[str, str]
    """Attribute -> label, of those that are known."""


def conversation(rng: random.Random, speaker: Speaker) -> Conversation:
    """A conversation about one sentence, which stands bare or in the tags that carry what is known about its speaker."""
    world = speaker.world
    language = world.random_language(rng)
    scrambled = rng.random() < 0.35
    sentence = world.scrambled(rng, language) if scrambled else world.sentence(rng, language, "train")
    meta = (
        random_meta(rng, world, [key for key in ("age", "gender", "emotion") if rng.random() < 0.9])
        if rng.random() < 0.5
        else {}
    )
    bare = not meta and rng.random() < 0.8
    content = sentence.text if bare else wrap_metadata(sentence.text, meta)
    turns: list[Turn] = []
    if rng.random() < 0.15:
        turns.append({"role": "system", "content": rng.choice(SYSTEM_MESSAGES)})
    tasks = _weighted(rng, list(speaker.tasks(rng, sentence, meta)))
    if rng.random() < 0.45:
        turns += _exchange(content, sentence.answer)
    else:
        task = next(tasks)
        turns += _exchange(f"{content} {_cased(rng, task.instruction)}", task.reply)
    for task, _ in zip(tasks, range(rng.choice([0, 0, 1, 2])), strict=False):
        turns += _exchange(_cased(rng, task.instruction), task.reply)
    return Conversation(turns, sentence.text, meta)


def copying(rng: random.Random, speaker: Speaker) -> Conversation:
    """A conversation in which each answer is what was said, word by word."""
    world = speaker.world
    language = world.random_language(rng)
    sentence = world.scrambled(rng, language)
    content = sentence.text
    if rng.random() < 0.5:
        return Conversation(_exchange(content, sentence.answer), sentence.text, {})
    repeat = rng.choice(world.values[language]["instructions"]["repeat"])
    return Conversation(_exchange(f"{content} {_cased(rng, repeat)}", content), sentence.text, {})


def telling(rng: random.Random, speaker: Speaker) -> Conversation:
    """A conversation in which each answer is what is known about the speaker."""
    world = speaker.world
    sentence = world.sentence(rng, world.random_language(rng), "train")
    meta = random_meta(rng, world, [key for key in META_KEYS if rng.random() < 0.9])
    about = {"describe", *META_KEYS}
    tasks = [task for task in speaker.tasks(rng, sentence, meta) if task.kind in about]
    rng.shuffle(tasks)
    content = wrap_metadata(sentence.text, meta)
    turns: list[Turn] = []
    for task in tasks:
        turns += _exchange(f"{content} {_cased(rng, task.instruction)}".strip(), task.reply)
        content = ""
    return Conversation(turns, sentence.text, meta)


def _exchange(user: str, assistant: str) -> list[Turn]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def _cased(rng: random.Random, text: str) -> str:
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def _weighted(rng: random.Random, tasks: list[Any]) -> Iterator[Any]:
    """The tasks in random order, the two that take most learning (repeat and choice) more often first."""
    return iter(
        sorted(tasks, key=lambda task: rng.random() ** (3.0 if task.kind in ("repeat", "choice") else 1.0))
    )


def build_tokenizer(world: World, recipe: LLMRecipe) -> Any:
    """A byte-level BPE trained on the tiny world's own conversations, with Qwen2's special tokens.

    Raises:
        ValueError: a word of the world is not one token: the vocabulary is too small.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng, speaker = random.Random(recipe.seed), Speaker(world)
    texts = [turn["content"] for _ in range(20_000) for turn in conversation(rng, speaker).turns]
    words = [word for language in world.languages for word in world.words(language)]
    texts += [f"{prefix}{word}" for word in words for prefix in ("", " ") for _ in range(200)] + [
        "assistant",
        "user",
        "system",
        "\n",
    ] * 1000
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRE_TOKENS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    split = [
        word
        for word in words
        for prefix in ("", " ")
        if word.isascii() and len(bpe.encode(prefix + word).ids) > 1
    ]
    if split:
        raise ValueError(
            f"vocabulary {recipe.vocabulary} splits {len(split)} words, as {split[:3]}: enlarge it"
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@dataclass(frozen=True)
class Soft:
    """One position of the input: a mixture of token embeddings, and noise.

    Speech reaches a language model as such mixtures: several for one word, of two words where they meet, of none in a pause.
    """

    ids: tuple[int, int, int]
    shares: tuple[float, float, float] = (1.0, 0.0, 0.0)
    noise: float = 0.0
    """Standard deviation, in that of the embeddings."""


Row = list[tuple[Soft, int, float]]
"""For each position what goes in, the token id that stands there (-1: none), and its weight in the loss."""


def tokenize(tokenizer: Any, talk: Conversation, rng: random.Random | None = None) -> Row:
    """A conversation as the model reads it, or, given `rng`, as if the sentence and the attributes were heard.

    Answers weigh 1/sqrt(length) a token, so that short ones count; the rest weighs nothing.
    """

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    def read(text: str) -> Row:
        return [(_token(token), token, 0.0) for token in encode(text)]

    row: Row = []
    waiting = True
    for turn in talk.turns:
        head = f"{START_OF_TURN}{turn['role']}\n"
        body = render_chat([turn])[len(head) :]
        row += read(head)
        if turn["role"] == "assistant":
            ids = encode(body)
            row += [(_token(token), token, len(ids) ** -0.5) for token in ids]
        elif turn["role"] == "user" and waiting and rng:
            waiting = False
            for text, kind in _parts(body, talk.sentence):
                if kind == "sentence":
                    row += [(soft, -1, 0.0) for soft in stretched(rng, encode(text))]
                elif kind == "meta":
                    labels = [encode(f" {label}") for label in talk.meta.values()]
                    row += [(soft, -1, 0.0) for soft in blended(rng, labels)]
                else:
                    row += read(text)
        else:
            row += read(body)
    return row


def _token(token: int) -> Soft:
    return Soft((token, 0, 0))


def _parts(body: str, sentence: str) -> list[tuple[str, str]]:
    """A user's turn cut where heard parts begin and end."""
    tags = re.match(r"(<audio><meta>)(.*?)(</meta><text>)", body)
    parts = list(zip(tags.groups(), ("tags", "meta", "tags"), strict=True)) if tags else []
    rest = body[tags.end() :] if tags else body
    return [*parts, (sentence, "sentence"), (rest[len(sentence) :], "rest")]


def stretched(rng: random.Random, ids: list[int]) -> list[Soft]:
    """Tokens as if spoken: each held for a while, running into its neighbours, with pauses and noise."""
    hold, pauses, noise = rng.uniform(0.9, 2.6), rng.uniform(0.0, 0.25), rng.uniform(0.0, 0.6)

    def pause() -> Soft:
        return Soft((0, 0, 0), (0.0, 0.0, 0.0), rng.uniform(0.3, 1.3))

    out = [pause() for _ in range(rng.choice([0, 0, 1, 2]))]
    position = 0
    while position < len(ids):
        here = ids[position]
        if position + 1 < len(ids) and rng.random() < 0.04:
            # Two short words in one place: the first is always the louder, which tells their order.
            out.append(Soft((here, ids[position + 1], 0), (0.65, 0.35, 0.0), noise))
            position += 2
            continue
        times = max(1, round(rng.gauss(hold, 0.6)))
        for copy in range(times):
            beside = ids[max(position - 1, 0)] if copy < times / 2 else ids[min(position + 1, len(ids) - 1)]
            share = rng.random() * (0.4 if copy in (0, times - 1) and times > 1 else 0.15)
            out.append(Soft((here, beside, 0), (1 - share, share, 0.0), noise))
        if rng.random() < pauses:
            out.append(pause())
        position += 1
    return out + [pause() for _ in range(rng.choice([0, 0, 1, 2]))]


def blended(rng: random.Random, labels: list[list[int]]) -> list[Soft]:
    """Attributes as if heard: present in every place at once, in changing shares, for as long as the speaker talks."""
    noise, out = rng.uniform(0.0, 0.8), []
    for _ in range(rng.randint(3, 30)):
        chosen = [rng.choice(label) for label in labels]
        loud = [rng.random() ** 2 for _ in chosen]
        scale = rng.uniform(0.5, 1.5) / max(sum(loud), 1e-3)
        padding = 3 - len(chosen)
        ids, shares = [*chosen, *[0] * padding], [*(x * scale for x in loud), *[0.0] * padding]
        out.append(
            Soft((ids[0], ids[1], ids[2]), (shares[0], shares[1], shares[2]), noise if labels else 1.0)
        )
    return out


@dataclass(frozen=True)
class Batch:
    """Conversations of like length, padded on the right."""

    ids: Tensor
    """(B, T, 3) int64, what is mixed at each position."""
    shares: Tensor
    """(B, T, 3) float32."""
    noise: Tensor
    """(B, T) float32."""
    targets: Tensor
    """(B, T) int64, -1 where nothing is read."""
    weights: Tensor
    """(B, T) float32, 0 outside the answers."""


def batches(tokenizer: Any, speaker: Speaker, recipe: LLMRecipe) -> Iterator[Batch]:
    """Endless batches, in which `recipe.heard_share` of the conversations are as if heard."""
    rng = random.Random(recipe.seed + 1)
    padding = (_token(tokenizer.pad_token_id), -1, 0.0)
    for step in count(0, _POOL_BATCHES):

        def row(step: int = step) -> Row:
            if step < recipe.copy_steps:
                return tokenize(tokenizer, copying(rng, speaker))
            if step < recipe.copy_steps + recipe.tell_steps and rng.random() < _TELL_SHARE:
                return tokenize(tokenizer, telling(rng, speaker))
            heard = rng if rng.random() < recipe.heard_share else None
            return tokenize(tokenizer, conversation(rng, speaker), heard)

        rows = [row() for _ in range(recipe.batch_size * _POOL_BATCHES)]
        pool = sorted(rows, key=len)
        chunks = [pool[i : i + recipe.batch_size] for i in range(0, len(pool), recipe.batch_size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            width = len(chunk[-1])
            yield to_batch([row + [padding] * (width - len(row)) for row in chunk])


def to_batch(rows: Sequence[Row]) -> Batch:
    """Rows of one length as tensors."""
    return Batch(
        torch.tensor([[soft.ids for soft, _, _ in row] for row in rows]),
        torch.tensor([[soft.shares for soft, _, _ in row] for row in rows]),
        torch.tensor([[soft.noise for soft, _, _ in row] for row in rows]),
        torch.tensor([[token for _, token, _ in row] for row in rows]),
        torch.tensor([[weight for _, _, weight in row] for row in rows]),
    )


def embed(model: Any, batch: Batch) -> Tensor:
    """(B, T, d) float32: the mixtures of embeddings, with their noise."""
    table = model.get_input_embeddings()
    mixed = (table(batch.ids) * batch.shares[..., None]).sum(dim=2)
    loudness = table.weight.detach().std() * batch.noise[..., None]
    return mixed + loudness * torch.randn_like(mixed)


def make_optimizer(model: torch.nn.Module, lr: float, adam_share: float) -> Muon:
    """Muon for the hidden matrices, Adam for embeddings, biases and gains."""
    matrices = [
        p
        for name, p in model.named_parameters()
        if p.ndim == 2 and "embed" not in name and "head" not in name
    ]
    return Muon(model.parameters(), lr, adam_share, matrices)


def trapezoid(step: int, num_steps: int, warmup: int = 100, decay_share: float = 0.5) -> float:
    """Learning-rate factor: up in `warmup` steps, flat, and linearly to zero over the last `decay_share`."""
    return min(1.0, (step + 1) / warmup, (num_steps - step) / (decay_share * num_steps))


def append_line(log: Path, values: dict[str, Any]) -> None:
    """Add a JSON line to `log`."""
    with log.open("a") as file:
        file.write(json.dumps(values) + "\n")


def build_llm(output: Path, recipe: LLMRecipe, log: Path) -> None:
    """Train the LLM and write it with its tokenizer to `output` (float16); losses go to `log` as JSON lines."""
    world = World()
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(world, recipe)
    model = _fresh_model(tokenizer, recipe)
    optimizer = make_optimizer(model, recipe.lr, recipe.adam_share)
    stream = batches(tokenizer, Speaker(world), recipe)
    for step in range(recipe.num_steps):
        batch = next(stream)
        learned = batch.weights[:, 1:] > 0
        weights = batch.weights[:, 1:][learned]
        # Padding stands to the right of causal attention: no mask is needed.
        hidden = model.model(inputs_embeds=embed(model, batch)).last_hidden_state[:, :-1]
        losses = functional.cross_entropy(
            model.lm_head(hidden[learned]), batch.targets[:, 1:][learned], reduction="none"
        )
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = trapezoid(step, recipe.num_steps, decay_share=recipe.decay_share)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * factor
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == recipe.num_steps - 1:
            append_line(log, {"step": step, "loss": round(loss.item(), 5)})
        if step % 500 == 499:
            _save(model, tokenizer, output)
    _save(model, tokenizer, output)


def _fresh_model(tokenizer: Any, recipe: LLMRecipe) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer) + 1, hidden_size=recipe.hidden_size, intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers, num_attention_heads=recipe.num_heads, num_key_value_heads=recipe.num_heads,
        tie_word_embeddings=True, max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip


def _save(model: Any, tokenizer: Any, output: Path) -> None:
    import copy

    copy.deepcopy(model).half().save_pretrained(output)
    tokenizer.save_pretrained(output)
