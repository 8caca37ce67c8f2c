"""The tiny world's language model: a Qwen2 trained from scratch to answer, to repeat, and to use what it is told about the speaker."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from azeros.sift.prompts import render_chat, wrap_metadata
from azeros.tiny.world import Speaker, World, random_meta

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Words and numbers take their leading space along, as in Qwen2; each CJK character stands alone, so that copying is by character.
_PRE_TOKENS = r" ?[A-Za-z]+|[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]|\d| ?[^\sA-Za-z\d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]+|\s+"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM_MESSAGES = ["you are a helpful assistant.", "You are a helpful assistant.", "answer the speaker."]


@dataclass(frozen=True)
class LLMRecipe:
    """Sizes and steps of the tiny LLM; the defaults made the shipped weights."""

    vocabulary: int = 1300
    hidden_size: int = 160
    num_layers: int = 5
    num_heads: int = 5
    intermediate_size: int = 432
    num_steps: int = 5900
    batch_size: int = 32
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    decay_share: float = 0.9
    seed: int = 1


Turn = dict[str, str]
_DIFFICULTY = {"repeat": 2.0, "choice": 4.0, "describe": 1.5, "emotion": 1.5}


def conversation(rng: random.Random, speaker: Speaker) -> list[Turn]:
    """A conversation about one sentence, which stands bare or in the tags that carry what is known about its speaker."""
    world = speaker.world
    language = world.random_language(rng)
    scrambled = rng.random() < 0.25
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
        turns += _exchange(content, speaker.plain(sentence, meta))
    else:
        task = next(tasks)
        turns += _exchange(f"{content} {_cased(rng, task.instruction)}", task.reply)
    for task, _ in zip(tasks, range(rng.choice([0, 0, 1, 2])), strict=False):
        turns += _exchange(_cased(rng, task.instruction), task.reply)
    return turns


def _exchange(user: str, assistant: str) -> list[Turn]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def _cased(rng: random.Random, text: str) -> str:
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def _weighted(rng: random.Random, tasks: list[Any]) -> Iterator[Any]:
    """The tasks in random order, the two that take most learning (repeat and choice) more often first."""
    return iter(
        sorted(
            tasks,
            key=lambda task: rng.random() ** (3.0 if task.kind in ("repeat", "choice") else 1.0),
            reverse=False,
        )
    )


def build_tokenizer(world: World, recipe: LLMRecipe) -> Any:
    """A byte-level BPE trained on the tiny world's own conversations, with Qwen2's special tokens.

    Raises:
        ValueError: a word of the world is not one token: the vocabulary is too small.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng, speaker = random.Random(recipe.seed), Speaker(world)
    texts = [turn["content"] for _ in range(20_000) for turn in conversation(rng, speaker)]
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


def tokenize(tokenizer: Any, turns: list[Turn]) -> tuple[list[int], list[float]]:
    """Token ids of a conversation, and each one's loss weight: 0 outside the answers, 1/sqrt(length) inside, so that short ones count."""
    ids: list[int] = []
    weights: list[float] = []
    for turn in turns:
        answer = turn["role"] == "assistant"
        head = f"<|im_start|>{turn['role']}\n"
        rendered = render_chat([turn])
        head_ids = tokenizer.encode(head, add_special_tokens=False)
        body = tokenizer.encode(rendered[len(head) :], add_special_tokens=False)
        ids += head_ids + body
        weights += [0.0] * len(head_ids) + [len(body) ** -0.5 if answer else 0.0] * len(body)
    return ids, weights


def batches(tokenizer: Any, speaker: Speaker, recipe: LLMRecipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids (B, T) int64, loss weights (B, T) float32), of conversations of like length."""
    rng = random.Random(recipe.seed + 1)
    pad = tokenizer.pad_token_id
    while True:
        pool = sorted(
            (tokenize(tokenizer, conversation(rng, speaker)) for _ in range(recipe.batch_size * 16)),
            key=lambda row: len(row[0]),
        )
        chunks = [pool[i : i + recipe.batch_size] for i in range(0, len(pool), recipe.batch_size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            width = max(len(ids) for ids, _ in chunk)
            ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in chunk])
            yield ids, torch.tensor([row + [0.0] * (width - len(row)) for _, row in chunk])


def optimizers(model: torch.nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings, biases and gains."""
    matrices = [
        p
        for name, p in model.named_parameters()
        if p.ndim == 2 and "embed" not in name and "head" not in name
    ]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=adam_lr, weight_decay=0.0, betas=(0.9, 0.95)),
    ]


def trapezoid(step: int, num_steps: int, warmup: int = 100, decay_share: float = 0.5) -> float:
    """Learning-rate factor: up in `warmup` steps, flat, and linearly to zero over the last `decay_share`."""
    return min(1.0, (step + 1) / warmup, (num_steps - step) / (decay_share * num_steps))


def build_llm(output: Path, recipe: LLMRecipe, log: Path, start_from: Path | None = None) -> None:
    """Train the LLM and write it with its tokenizer to `output` (float16); losses go to `log` as JSON lines.

    With `start_from`, the folder of an earlier result, its tokenizer and weights are trained on.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    world = World()
    torch.manual_seed(recipe.seed)
    if start_from:
        tokenizer = AutoTokenizer.from_pretrained(start_from)
        model = AutoModelForCausalLM.from_pretrained(start_from, dtype=torch.float32)
    else:
        tokenizer = build_tokenizer(world, recipe)
        model = _fresh_model(tokenizer, recipe)
    steps = optimizers(model, recipe.muon_lr, recipe.adam_lr)
    initial = [optimizer.param_groups[0]["lr"] for optimizer in steps]
    stream = batches(tokenizer, Speaker(world), recipe)
    for step in range(recipe.num_steps):
        ids, weights = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            # Padding stands to the right of causal attention: no mask is needed.
            hidden = model.model(ids).last_hidden_state[:, :-1]
            rows = weights[:, 1:] > 0
            logits = model.lm_head(hidden[rows])
        losses = functional.cross_entropy(logits.float(), ids[:, 1:][rows], reduction="none")
        loss = (losses * weights[:, 1:][rows]).sum() / weights[:, 1:].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, lr in zip(steps, initial, strict=True):
            optimizer.param_groups[0]["lr"] = lr * trapezoid(
                step, recipe.num_steps, decay_share=recipe.decay_share
            )
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0 or step == recipe.num_steps - 1:
            with log.open("a") as file:
                file.write(json.dumps({"step": step, "loss": round(loss.item(), 5)}) + "\n")
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


@torch.no_grad()
def answer_all(folder: Path, prompts: list[str], max_new_tokens: int = 48) -> list[str]:
    """Greedy answers of the LLM in `folder` to rendered prompts, batched."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers: list[str] = []
    for start in range(0, len(prompts), 128):
        inputs = tokenizer(
            prompts[start : start + 128], return_tensors="pt", padding=True, add_special_tokens=False
        )
        inputs.pop("token_type_ids", None)
        out = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        answers += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [answer.strip() for answer in answers]


def text_accuracy(folder: Path, split: str, num_sentences: int, seed: int) -> dict[str, float]:
    """Share of exactly right answers of the LLM on text, for each ability, on sentences of `split`."""
    world = World()
    speaker, rng = Speaker(world), random.Random(seed)
    rows: list[tuple[str, str, str]] = []
    for _ in range(num_sentences):
        language = world.random_language(rng)
        sentence = world.sentence(rng, language, split)
        meta = random_meta(rng, world)
        rows.append(("plain", sentence.text, speaker.plain(sentence, {})))
        tagged = wrap_metadata(sentence.text, meta)
        rows.append(("plain_meta", tagged, speaker.plain(sentence, meta)))
        rows += [
            (task.kind, f"{tagged} {task.instruction}", task.reply)
            for task in speaker.tasks(rng, sentence, meta, canonical=True)
        ]
        rows += [
            (f"{task.kind}_bare", f"{sentence.text} {task.instruction}", task.reply)
            for task in speaker.tasks(rng, sentence, {}, canonical=True)
        ]
    prompts = [
        render_chat([{"role": "user", "content": content}]) + "<|im_start|>assistant\n"
        for _, content, _ in rows
    ]
    right: dict[str, list[bool]] = {}
    for (kind, _, reply), answer in zip(rows, answer_all(folder, prompts), strict=True):
        right.setdefault(kind, []).append(answer == reply)
    return {kind: sum(hits) / len(hits) for kind, hits in sorted(right.items())}
