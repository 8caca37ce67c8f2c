"""The tiny world's two encoders: Zipformers trained from scratch on synthetic speech, then frozen like the real ones.

The semantic one learns words (CTC, and each frame's word by the synthesiser's own times), the paralinguistic one each frame's speaker attributes.
The convolutional frontend costs four fifths of the arithmetic of such small models, so it is trained first, for both, together with the semantic stacks,
and then frozen: the stacks go on from its stored outputs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from azeros.data.features import fbank
from azeros.model.zipformer import Zipformer, ZipformerConfig
from azeros.tiny.llm import append_line, make_optimizer, trapezoid
from azeros.tiny.speech import Speech, Synthesizer, random_voice
from azeros.tiny.world import META_KEYS, World

PAD_VALUE = float(np.log(1e-10))
# Centre of output frame f in seconds: each sees 4 feature frames after the frontend's margin of 3.5.
FRAME_S, FRAME_OFFSET_S = 0.04, 0.045


@dataclass(frozen=True)
class EncoderRecipe:
    """Sizes and steps of both encoders; the defaults made the shipped weights."""

    num_utterances: int = 9_000
    scrambled_share: float = 0.3
    frontend_epochs: int = 1
    semantic_epochs: int = 12
    paraling_epochs: int = 3
    batch_size: int = 24
    lr: float = 0.02
    adam_share: float = 0.1
    seed: int = 2


_SHARED = {
    "query_head_dim": [16],
    "value_head_dim": [12],
    "pos_head_dim": [4],
    "pos_dim": 24,
    "cnn_module_kernel": [15],
}
SEMANTIC = ZipformerConfig.from_dict({
    **_SHARED, "downsampling_factor": [2, 4, 2], "num_encoder_layers": [1, 2, 1], "encoder_dim": [112, 160, 176],
    "feedforward_dim": [224, 320, 320], "num_heads": [4],
})  # fmt: skip
PARALING = ZipformerConfig.from_dict({
    **_SHARED, "downsampling_factor": [4, 2], "num_encoder_layers": [1, 1], "encoder_dim": [112, 96], "feedforward_dim": [160], "num_heads": [4],
})  # fmt: skip


@dataclass
class Example:
    """One training utterance."""

    features: Tensor
    """(T, 80) float16 log-mel."""
    units: Tensor
    """(U,) int64 word (English) or character (Chinese) numbers, from 1; 0 is the CTC blank."""
    frame_units: Tensor
    """(ceil(T'/2),) int64, the unit spoken at each output frame."""
    attributes: Tensor
    """(3,) int64 labels of age, gender, emotion."""


def unit_table(world: World) -> list[str]:
    """Blank, every English word, every Chinese character."""
    characters = sorted({c for word in world.words("zh") for c in word})
    return ["", *world.words("en"), *characters]


def split_units(text: str, language: str) -> list[tuple[int, str]]:
    """(first character, unit) of each word or CJK character of `text`."""
    if language == "zh":
        return list(enumerate(text))
    starts, position = [], 0
    for word in text.split(" "):
        starts.append((position, word))
        position += len(word) + 1
    return starts


def render_examples(num: int, split: str, seed: int, scrambled_share: float, noisy: bool) -> list[Example]:
    """Utterances of random sentences and voices of `split`; a share is random words; half get noise and another gain if `noisy`."""
    world, synthesizer, rng = World(), Synthesizer(), random.Random(seed)
    numbers = {unit: i for i, unit in enumerate(unit_table(world))}
    noise = np.random.default_rng(seed)
    examples = []
    for _ in range(num):
        language = world.random_language(rng)
        sentence = (
            world.scrambled(rng, language)
            if rng.random() < scrambled_share
            else world.sentence(rng, language, split)
        )
        voice = random_voice(rng, world.values["speech"], world.meta_values, language, split)
        speech = synthesizer.render(sentence.text, voice, world.values["speech"], rng)
        samples = speech.samples
        if noisy and rng.random() < 0.5:
            level = np.abs(samples).mean() * 10 ** -rng.uniform(0.5, 2)
            samples = (samples + noise.normal(0, level, len(samples))).astype(np.float32) * rng.uniform(
                0.3, 1.0
            )
        features = fbank(samples).half()
        units = split_units(sentence.text, language)
        attributes = [world.meta_values[key].index(getattr(voice, key)) for key in META_KEYS]
        examples.append(Example(
            features, torch.tensor([numbers[unit] for _, unit in units]),
            _frame_units(units, speech, len(features), numbers), torch.tensor(attributes),
        ))  # fmt: skip
    return examples


def _frame_units(
    units: list[tuple[int, str]], speech: Speech, num_frames: int, numbers: dict[str, int]
) -> Tensor:
    """The unit at each output frame; a word that was not announced belongs to the announced one before it."""
    times = dict(speech.word_starts)
    starts = [(times[first], numbers[unit]) for first, unit in units if first in times] or [
        (0.0, numbers[units[0][1]])
    ]
    num_out = ((num_frames - 7) // 2 + 1) // 2
    at_s = np.arange(num_out) * FRAME_S + FRAME_OFFSET_S
    index = np.searchsorted([start for start, _ in starts], at_s, side="right") - 1
    return torch.tensor([starts[max(i, 0)][1] for i in index], dtype=torch.int64)


class Heads(nn.Module):
    """The classifiers that teach an encoder and are thrown away after it."""

    def __init__(self, dim: int, num_classes: list[int]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(dim, num) for num in num_classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, T', D) -> for each classifier (B, T', classes)."""
        return [linear(x) for linear in self.linears]


def word_heads(dim: int) -> Heads:
    """CTC and frame classifiers of words and characters."""
    num_units = len(unit_table(World()))
    return Heads(dim, [num_units, num_units])


def attribute_heads(dim: int) -> Heads:
    """Classifiers of age, gender and emotion."""
    return Heads(dim, [len(labels) for labels in World().meta_values.values()])


def semantic_loss(heads: Heads, out: Tensor, lens: Tensor, batch: list[Example]) -> Tensor:
    """CTC over units, and half of it each frame's unit."""
    ctc, frames = heads(out)
    log_probs = ctc.float().log_softmax(-1).transpose(0, 1)
    units = pad_sequence([e.units for e in batch], batch_first=True)
    num_units = torch.tensor([len(e.units) for e in batch])
    loss = functional.ctc_loss(log_probs, units, lens, num_units, zero_infinity=True)
    targets = pad_sequence([e.frame_units for e in batch], batch_first=True, padding_value=-100)
    return loss + 0.5 * functional.cross_entropy(
        frames.float().transpose(1, 2), targets[:, : frames.shape[1]], ignore_index=-100
    )


def paraling_loss(heads: Heads, out: Tensor, lens: Tensor, batch: list[Example]) -> Tensor:
    """Age, gender and emotion at every frame."""
    valid = torch.arange(out.shape[1]) < lens[:, None]
    labels = torch.stack([e.attributes for e in batch])
    losses = [
        functional.cross_entropy(logits.float()[valid], labels[:, i, None].expand_as(valid)[valid])
        for i, logits in enumerate(heads(out))
    ]
    return torch.stack(losses).sum()


def length_batches(lengths: list[int], batch_size: int, rng: random.Random) -> Iterator[list[int]]:
    """One epoch of index batches of like length, shuffled."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] + rng.uniform(0, 10))
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(chunks)
    yield from chunks


def collate(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(B, T, F) float32 padded with the log of silence, and (B,) lengths."""
    lens = torch.tensor([len(f) for f in features])
    return pad_sequence([f.float() for f in features], batch_first=True, padding_value=PAD_VALUE), lens


def _mask_time(x: Tensor, rng: random.Random, share: float = 0.12, width: int = 12) -> Tensor:
    """Zero one span of up to `width` frames an item, in some items (SpecAugment on stored frontend outputs)."""
    x = x.clone()
    for item in x:
        if rng.random() < share * 5:
            start = rng.randrange(max(len(item) - width, 1))
            item[start : start + rng.randint(1, width)] = 0
    return x


class Trainer:
    """Trains stacks and heads, with or without the frontend in front of them."""

    def __init__(
        self,
        model: Zipformer,
        heads: nn.Module,
        recipe: EncoderRecipe,
        num_steps: int,
        frontend: bool,
        log: Path,
        name: str,
    ) -> None:
        modules = [model.encoder, heads, *([model.encoder_embed] if frontend else [])]
        self.model, self.heads, self.num_steps, self.log, self.name = model, heads, num_steps, log, name
        self.optimizer = make_optimizer(nn.ModuleList(modules), recipe.lr, recipe.adam_share)
        self.lr, self.step = recipe.lr, 0

    def update(self, loss: Tensor) -> None:
        """One optimizer step on `loss`; its value is logged every 25."""
        loss.backward()
        for group in self.optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 2.0)
            group["lr"] = self.lr * trapezoid(self.step, self.num_steps)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.step % 25 == 0:
            note = {"part": self.name, "step": self.step, "of": self.num_steps, "loss": round(loss.item(), 4)}
            append_line(self.log, note)
        self.step += 1


def train_frontend(
    model: Zipformer, semantic_heads: Heads, examples: list[Example], recipe: EncoderRecipe, log: Path
) -> None:
    """Train frontend and stacks together on words, and on attributes read straight off the frontend so that it keeps the voice."""
    voice_heads = attribute_heads(SEMANTIC.encoder_dim[0])
    rng = random.Random(recipe.seed)
    num_steps = recipe.frontend_epochs * -(-len(examples) // recipe.batch_size)
    trainer = Trainer(
        model, nn.ModuleList([semantic_heads, voice_heads]), recipe, num_steps, True, log, "frontend"
    )
    lengths = [len(e.features) for e in examples]
    for _ in range(recipe.frontend_epochs):
        for index in length_batches(lengths, recipe.batch_size, rng):
            batch = [examples[i] for i in index]
            x, x_lens = collate([e.features for e in batch])
            embedded = model.encoder_embed(x)
            out = model.encode_embedded(embedded, x_lens)
            voice = paraling_loss(
                voice_heads, embedded.mean(dim=1, keepdim=True), torch.ones(len(batch)), batch
            )
            words = semantic_loss(semantic_heads, out.encoder_out, out.encoder_out_lens, batch)
            trainer.update(words + 0.2 * voice)


@torch.no_grad()
def embed(model: Zipformer, examples: list[Example]) -> list[Tensor]:
    """The frozen frontend's outputs: for each example (T', D_0) bfloat16."""
    return [model.encoder_embed(e.features[None].float())[0].bfloat16() for e in examples]


def train_stacks(
    model: Zipformer,
    heads: Heads,
    embedded: list[Tensor],
    examples: list[Example],
    epochs: int,
    recipe: EncoderRecipe,
    log: Path,
    name: str,
) -> None:
    """Train the stacks on stored frontend outputs."""
    loss_of = semantic_loss if name == "semantic" else paraling_loss
    rng = random.Random(recipe.seed + 1)
    trainer = Trainer(model, heads, recipe, epochs * -(-len(examples) // recipe.batch_size), False, log, name)
    for _ in range(epochs):
        for index in length_batches([len(e) for e in embedded], recipe.batch_size, rng):
            batch = [examples[i] for i in index]
            x = pad_sequence([embedded[i].float() for i in index], batch_first=True)
            x_lens = torch.tensor([len(e.features) for e in batch])
            x = functional.dropout(_mask_time(x, rng), 0.05)
            out = model.encode_embedded(x, x_lens)
            trainer.update(loss_of(heads, out.encoder_out, out.encoder_out_lens, batch))


def build_encoders(output: Path, recipe: EncoderRecipe, log: Path) -> None:
    """Train both encoders and write them to `output`/speech_encoder and /paraling_encoder (float16)."""
    torch.manual_seed(recipe.seed)
    examples = render_examples(
        recipe.num_utterances, "train", recipe.seed, recipe.scrambled_share, noisy=True
    )
    semantic, paraling = Zipformer(SEMANTIC), Zipformer(PARALING)
    heads, voice_heads = word_heads(SEMANTIC.output_dim), attribute_heads(PARALING.output_dim)
    train_frontend(semantic, heads, examples, recipe, log)
    paraling.encoder_embed.load_state_dict(semantic.encoder_embed.state_dict())
    embedded = embed(semantic, examples)
    train_stacks(paraling, voice_heads, embedded, examples, recipe.paraling_epochs, recipe, log, "paraling")
    paraling.save_pretrained(output / "paraling_encoder", torch.float16)
    train_stacks(semantic, heads, embedded, examples, recipe.semantic_epochs, recipe, log, "semantic")
    semantic.save_pretrained(output / "speech_encoder", torch.float16)
