"""What the tiny foundation can do on sentences and voices that it never met: `azeros tiny measure`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from azeros.evaluation.scores import edit_distance
from azeros.model.chat import END_OF_TURN
from azeros.model.zipformer import Zipformer
from azeros.progress import track
from azeros.sift.prompts import wrap_metadata, write_qwen
from azeros.tiny.encoders import (
    Example,
    Heads,
    attribute_heads,
    length_batches,
    paraling_loss,
    render_examples,
    semantic_loss,
    word_heads,
)
from azeros.tiny.llm import Conversation, embed, to_batch, tokenize
from azeros.tiny.world import META_KEYS, Speaker, World, random_meta

_NUM_PROBED, _NUM_HELD_OUT, _PROBE_EPOCHS = 1500, 400, 12


def run(folder: Path) -> dict[str, float]:
    """Figures of the foundation in `folder` by name, shares unless they say otherwise.

    The heads that the encoders were trained with are not kept: linear ones are fitted to frozen outputs on training
    sentences and voices, and measured on held-out ones.
    """
    figures = {f"llm/{kind}": share for kind, share in text_accuracy(folder / "llm", 300, seed=5).items()}
    figures["llm/plain_as_if_heard"] = heard_accuracy(folder / "llm", 300, seed=6)
    fit = render_examples(_NUM_PROBED, "train", 11, 0.3, noisy=False)
    held_out = render_examples(_NUM_HELD_OUT, "test", 12, 0.0, noisy=False)
    semantic = Zipformer.from_pretrained(folder / "speech_encoder")
    words = word_heads(semantic.output_dim)
    seen = _probe(semantic, words, semantic_loss, fit, held_out, "words")
    figures["speech_encoder/word_error_rate"] = _word_error_rate(words, seen, held_out)
    paraling = Zipformer.from_pretrained(folder / "paraling_encoder")
    attributes = attribute_heads(paraling.output_dim)
    seen = _probe(paraling, attributes, paraling_loss, fit, held_out, "attributes")
    return figures | _attribute_accuracy(attributes, seen, held_out)


def text_accuracy(folder: Path, num_sentences: int, seed: int) -> dict[str, float]:
    """Share of exactly right answers of the LLM to held-out sentences as text, for each ability.

    Attributes stand in the tags; `_bare` abilities are asked without them, `_scrambled` ones about words in no order.
    """
    world = World()
    speaker, rng = Speaker(world), random.Random(seed)
    rows: list[tuple[str, str, str]] = []
    for _ in range(num_sentences):
        sentence = world.sentence(rng, world.random_language(rng), "test")
        meta = random_meta(rng, world)
        tagged = wrap_metadata(sentence.text, meta)
        rows += [("plain_bare", sentence.text, sentence.answer), ("plain", tagged, sentence.answer)]
        mixed = world.scrambled(rng, sentence.language)
        repeat = world.values[sentence.language]["instructions"]["repeat"][0]
        rows += [
            ("plain_scrambled", mixed.text, mixed.answer),
            ("repeat_scrambled", f"{mixed.text} {repeat}", mixed.text),
        ]
        for content, known, suffix in ((tagged, meta, ""), (sentence.text, {}, "_bare")):
            rows += [
                (f"{task.kind}{suffix}", f"{content} {task.instruction}", task.reply)
                for task in speaker.tasks(rng, sentence, known, canonical=True)
            ]
    prompts = [write_qwen([{"role": "user", "content": content}]) for _, content, _ in rows]
    right: dict[str, list[bool]] = {}
    for (kind, _, reply), answer in zip(rows, _answers(folder, prompts), strict=True):
        right.setdefault(kind, []).append(answer == reply)
    return {kind: sum(hits) / len(hits) for kind, hits in sorted(right.items())}


@torch.no_grad()
def heard_accuracy(folder: Path, num_sentences: int, seed: int) -> float:
    """Share of plain answers of the LLM that are exactly right where a held-out sentence comes as it learned to hear one.

    So blurred, its own answer is the most that a projector can be expected to reach.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    world, rng = World(), random.Random(seed)
    torch.manual_seed(seed)
    right = 0
    with track("llm, as if heard", num_sentences) as advance:
        for _ in range(num_sentences):
            sentence = world.sentence(rng, world.random_language(rng), "test")
            turns = [{"role": "user", "content": sentence.text}, {"role": "assistant", "content": ""}]
            row = tokenize(tokenizer, Conversation(turns, sentence.text, {}), rng)
            asked = embed(model, to_batch([row]))[:, : -len(tokenizer.encode(f"{END_OF_TURN}\n"))]
            ids = model.generate(
                inputs_embeds=asked,
                attention_mask=torch.ones(asked.shape[:2], dtype=torch.long),
                max_new_tokens=48,
                do_sample=False,
            )
            right += tokenizer.decode(ids[0], skip_special_tokens=True).strip() == sentence.answer
            advance(1)
    return right / num_sentences


def _answers(folder: Path, prompts: list[str]) -> list[str]:
    from azeros.params import Pretrained
    from azeros.sift.answers import answer_all
    from azeros.sift.local import LocalLLM
    from azeros.sift.profile import read_profile

    llm = LocalLLM(
        read_profile(Pretrained(path=str(folder), revision=None)), max_new_tokens=48, batch_size=64
    )
    with track("llm", len(prompts)) as advance:
        return [answer.text.strip() for answer in answer_all(llm, prompts, advance)]


def _probe(
    encoder: Zipformer, heads: Heads, loss_of: Callable[..., Tensor], fit: list[Example],
    held_out: list[Example], name: str,
) -> list[Tensor]:  # fmt: skip
    """Fit `heads` to the frozen encoder's outputs and return those of the held-out utterances, each (T', D)."""
    torch.manual_seed(0)
    outputs = list(_outputs(encoder, [*fit, *held_out], name))
    optimizer = torch.optim.Adam(heads.parameters(), lr=5e-3)
    rng = random.Random(0)
    for _ in range(_PROBE_EPOCHS):
        for index in length_batches([len(outputs[i]) for i in range(len(fit))], 24, rng):
            x = pad_sequence([outputs[i] for i in index], batch_first=True)
            lens = torch.tensor([len(outputs[i]) for i in index])
            loss = loss_of(heads, x, lens, [fit[i] for i in index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return outputs[len(fit) :]


@torch.no_grad()
def _outputs(encoder: nn.Module, examples: list[Example], name: str) -> Iterator[Tensor]:
    with track(f"encode {name}", len(examples)) as advance:
        for e in examples:
            out: Any = encoder(e.features[None].float(), torch.tensor([len(e.features)]))
            yield out.encoder_out[0, : int(out.encoder_out_lens)]
            advance(1)


@torch.no_grad()
def _word_error_rate(heads: Heads, outputs: list[Tensor], examples: list[Example]) -> float:
    """Greedy CTC against the words (Chinese: characters): edits / units."""
    edits = total = 0
    for out, e in zip(outputs, examples, strict=True):
        heard = [u for u in torch.unique_consecutive(heads(out)[0].argmax(-1)).tolist() if u != 0]
        edits += edit_distance(e.units.tolist(), heard)
        total += len(e.units)
    return edits / total


@torch.no_grad()
def _attribute_accuracy(heads: Heads, outputs: list[Tensor], examples: list[Example]) -> dict[str, float]:
    """Share of utterances whose mean logits name the right label, for each attribute."""
    right = dict.fromkeys(META_KEYS, 0)
    for out, e in zip(outputs, examples, strict=True):
        for key, logits, label in zip(META_KEYS, heads(out), e.attributes.tolist(), strict=True):
            right[key] += int(logits.mean(0).argmax() == label)
    return {f"paraling_encoder/{key}": hits / len(examples) for key, hits in right.items()}
