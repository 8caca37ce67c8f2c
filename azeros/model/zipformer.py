"""The Zipformer2 speech encoder of Auden, for inference and for training small ones (spec/ZIPFORMER.md).

Only what the eval-mode forward needs is here: no balancers, whiteners, layer skipping or schedules, which a frozen encoder never uses.

Letters: B batch, T feature frames (100 Hz), t frames inside a stack, D width, H heads, F mel bins.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from azeros.model.checkpoint import load_state_dict, match_keys, write_tensors

MASKED_SCORE = -1000.0
MIN_FRAMES = 9


@dataclass(frozen=True)
class ZipformerConfig:
    """`config.json` of a Zipformer; lists have one entry for each stack (ZIPFORMER.md section 1)."""

    feature_dim: int = 80
    downsampling_factor: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 4, 2])
    num_encoder_layers: list[int] = field(default_factory=lambda: [2, 2, 3, 4, 3, 2])
    encoder_dim: list[int] = field(default_factory=lambda: [192, 256, 384, 512, 384, 256])
    feedforward_dim: list[int] = field(default_factory=lambda: [576, 768, 1152, 1536, 1152, 768])
    num_heads: list[int] = field(default_factory=lambda: [4, 4, 4, 8, 4, 4])
    query_head_dim: list[int] = field(default_factory=lambda: [32])
    value_head_dim: list[int] = field(default_factory=lambda: [12])
    pos_head_dim: list[int] = field(default_factory=lambda: [4])
    cnn_module_kernel: list[int] = field(default_factory=lambda: [31, 31, 15, 15, 15, 31])
    pos_dim: int = 48
    causal: bool = False
    chunk_size: list[int] = field(default_factory=lambda: [16, 32, 64, -1])
    left_context_frames: list[int] = field(default_factory=lambda: [64, 128, 256, -1])

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ZipformerConfig:
        """Read `values` of a config.json: keys that inference does not use are ignored, a single value is repeated for every stack.

        Raises:
            ValueError: a per-stack list has neither one entry nor one for each stack, or the output rate is not halved.
        """
        if values.get("output_downsampling_factor", 2) != 2:
            raise ValueError(
                f"output_downsampling_factor is {values['output_downsampling_factor']}: only 2 exists"
            )
        known = {f.name for f in fields(cls)}
        config = cls(**{k: v for k, v in values.items() if k in known})
        num_stacks = len(config.downsampling_factor)
        lists = {name: _per_stack(name, getattr(config, name), num_stacks) for name in _PER_STACK}
        return cls(**{**asdict(config), **lists})

    def to_dict(self) -> dict[str, Any]:
        """The content of config.json."""
        return {"model_type": "zipformer", "output_downsampling_factor": 2, **asdict(self)}

    @property
    def output_dim(self) -> int:
        """Width of `encoder_out`."""
        return max(self.encoder_dim)


_PER_STACK = (
    "num_encoder_layers", "encoder_dim", "feedforward_dim", "num_heads", "query_head_dim", "value_head_dim",
    "pos_head_dim", "cnn_module_kernel",
)  # fmt: skip


def _per_stack(name: str, value: int | list[int], num_stacks: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    if len(values) == 1:
        return values * num_stacks
    if len(values) != num_stacks:
        raise ValueError(
            f"{name} has {len(values)} entries for {num_stacks} stacks: give one, or one for each"
        )
    return values


@dataclass
class ZipformerOutput:
    """What an encoder returns; frames past an item's length are not meaningful."""

    encoder_out: Tensor
    """(B, ceil(T'/2), D) float, 25 Hz."""
    encoder_out_lens: Tensor
    """(B,) int64, valid frames, 0 for items shorter than nine feature frames."""
    stack_outs: list[Tensor]
    """For each stack (B, T', D_i), 50 Hz: where a probe or an auxiliary loss looks inside."""


def swoosh_l(x: Tensor) -> Tensor:
    """softplus(x - 4) - 0.08 x - 0.035, any shape; computed in float32 at least (ZIPFORMER.md section 3)."""
    return _swoosh(x, 4.0, 0.035)


def swoosh_r(x: Tensor) -> Tensor:
    """softplus(x - 1) - 0.08 x - 0.313261687, any shape; computed in float32 at least (ZIPFORMER.md section 3)."""
    return _swoosh(x, 1.0, 0.313261687)


def _swoosh(x: Tensor, shift: float, offset: float) -> Tensor:
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    # Past the threshold softplus(u) = u, which at 40 is exact in float64 too. Its gradient does not need its output,
    # so that the rest may be subtracted in place: fresh memory costs more than the arithmetic.
    plus = functional.softplus(wide - shift, threshold=40.0)
    return plus.sub_(wide, alpha=0.08).sub_(offset).to(x.dtype)


class BiasNorm(nn.Module):
    """x * exp(log_scale) / rms(x - bias) over channels; the numerator is x itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        power = (x - self.bias).square().mean(dim=-1, keepdim=True)
        return x * (power.rsqrt() * self.log_scale.exp())


class Bypass(nn.Module):
    """a + (b - a) * scale, a learned gate for each channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(..., D), (..., D) -> (..., D)."""
        return a + (b - a) * self.bypass_scale


class ConvNeXt(nn.Module):
    """Residual depthwise 7x7 and two pointwise convolutions over (time, frequency)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.pointwise_conv1 = nn.Conv2d(channels, 3 * channels, 1)
        self.pointwise_conv2 = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, C, T, F)."""
        # A 1x1 convolution is a matrix product over the channels of each pixel; the hidden ones of 1024 take 1.5 MB.
        pixels = self.depthwise_conv(x).permute(0, 2, 3, 1)
        mixed = torch.cat([self._pointwise(some) for some in _pieces(pixels.flatten(0, 2), 1024)])
        return x + mixed.view(pixels.shape).permute(0, 3, 1, 2)

    def _pointwise(self, pixels: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        hidden = functional.linear(pixels, self.pointwise_conv1.weight.flatten(1), self.pointwise_conv1.bias)
        return functional.linear(
            swoosh_l(hidden), self.pointwise_conv2.weight.flatten(1), self.pointwise_conv2.bias
        )


def _pieces(x: Tensor, size: int) -> tuple[Tensor, ...]:
    """`x` in pieces of `size` along its first axis on a CPU, whose caches then hold what is made of them; whole elsewhere."""
    return x.split(size) if x.device.type == "cpu" and not torch.compiler.is_compiling() else (x,)


class Frontend(nn.Module):
    """Log-mel frames at 100 Hz to vectors at 50 Hz (ZIPFORMER.md section 4). Nothing in it is masked."""

    def __init__(self, feature_dim: int, output_dim: int) -> None:
        super().__init__()
        # The indices 0, 4, 7 are those of the published weights.
        self.conv = nn.ModuleDict({
            "0": nn.Conv2d(1, 8, 3, padding=(0, 1)),
            "4": nn.Conv2d(8, 32, 3, stride=2),
            "7": nn.Conv2d(32, 128, 3, stride=(1, 2)),
        })  # fmt: skip
        self.convnext = ConvNeXt(128)
        self.out = nn.Linear(128 * (((feature_dim - 1) // 2 - 1) // 2), output_dim)
        self.out_norm = BiasNorm(output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, (T - 7) // 2, D)."""
        return torch.cat([self._embed(item) for item in _pieces(x, 1)])

    def _embed(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, (T - 7) // 2, D)."""
        x = x.unsqueeze(1)
        for conv in self.conv.values():
            x = swoosh_r(conv(x))
        x = self.convnext(x)
        return self.out_norm(self.out(x.transpose(1, 2).flatten(2)))


def relative_positions(num_frames: int, dim: int, device: torch.device | None = None) -> Tensor:
    """(2t - 1, P) float32: the table of offsets -(t - 1) .. t - 1 (ZIPFORMER.md section 6)."""
    offsets = torch.arange(1 - num_frames, num_frames, dtype=torch.float32, device=device)
    stretch = dim**0.5
    compressed = stretch * offsets.sign() * ((offsets.abs() + stretch).log() - torch.tensor(stretch).log())
    angle = (compressed * (2 * torch.pi / dim)).atan()
    harmonics = angle[:, None] * torch.arange(1, dim // 2 + 1, device=device)
    table = torch.stack([harmonics.cos(), harmonics.sin()], dim=-1).flatten(1)
    table[:, -1] = 1.0
    return table


def _shifted(by_offset: Tensor) -> Tensor:
    """(B, H, t, 2t - 1) -> (B * H, t, t): element (i, j) is column j - i + t - 1 of row i."""
    batch, heads, t, num = by_offset.shape
    if torch.compiler.is_exporting():  # ONNX knows no strides
        steps = torch.arange(t, device=by_offset.device)
        columns = (steps[None, :] - steps[:, None] + t - 1).expand(batch * heads, t, t)
        return by_offset.flatten(0, 1).gather(2, columns)
    return by_offset.as_strided((batch * heads, t, t), (by_offset.stride(1), num - 1, 1), t - 1)


class AttentionWeights(nn.Module):
    """Relative-position attention weights, computed once a layer and used by three of its parts."""

    def __init__(self, dim: int, num_heads: int, query_dim: int, pos_head_dim: int, pos_dim: int) -> None:
        super().__init__()
        self.num_heads, self.query_dim, self.pos_head_dim = num_heads, query_dim, pos_head_dim
        self.in_proj = nn.Linear(dim, num_heads * (2 * query_dim + pos_head_dim))
        self.linear_pos = nn.Linear(pos_dim, num_heads * pos_head_dim, bias=False)

    def forward(self, x: Tensor, positions: Tensor, hidden: Tensor) -> Tensor:
        """x (B, t, D), positions (2t - 1, P), hidden (B, 1, t or 1, t) bool, True where a key is not seen -> (B, H, t, t)."""
        batch, t, _ = x.shape
        heads, dq, dp = self.num_heads, self.query_dim, self.pos_head_dim
        query, key, pos = self.in_proj(x).split([heads * dq, heads * dq, heads * dp], dim=-1)
        query = query.view(batch, t, heads, dq).transpose(1, 2).flatten(0, 1)
        key = key.view(batch, t, heads, dq).permute(0, 2, 3, 1).flatten(0, 1)
        pos = pos.view(batch, t, heads, dp).transpose(1, 2)
        table = self.linear_pos(positions.to(x.dtype)).view(2 * t - 1, heads, dp).permute(1, 2, 0)
        by_offset = torch.matmul(pos, table).contiguous()  # (B, H, t, 2t - 1): column = offset + t - 1
        scores = torch.baddbmm(_shifted(by_offset), query, key).view(batch, heads, t, t)
        return scores.masked_fill_(hidden, MASKED_SCORE).softmax(dim=-1)


class SelfAttention(nn.Module):
    """Values of all heads, mixed by given weights."""

    def __init__(self, dim: int, num_heads: int, value_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(dim, num_heads * value_dim)
        self.out_proj = nn.Linear(num_heads * value_dim, dim)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x (B, t, D), weights (B, H, t, t) -> (B, t, D)."""
        values = self.in_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return self.out_proj(torch.matmul(weights, values).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, SwooshL, Linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, hidden_dim)
        self.out_proj = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, D) -> (B, t, D)."""
        return self.out_proj(swoosh_l(self.in_proj(x)))


class NonlinAttention(nn.Module):
    """Gated values of 3D/4 channels, mixed over time by the weights of head 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 3 * (3 * dim // 4))
        self.out_proj = nn.Linear(3 * dim // 4, dim)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x (B, t, D), weights (B, t, t) -> (B, t, D)."""
        gate, values, scale = self.in_proj(x).chunk(3, dim=-1)
        return self.out_proj(torch.bmm(weights, gate.tanh() * values) * scale)


class DepthwiseConv(nn.Conv1d):
    """A convolution of each channel over time, of frames that hold their channels side by side."""

    def __init__(self, dim: int, kernel: int, padding: int = 0) -> None:
        super().__init__(dim, dim, kernel, groups=dim, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, D) -> (B, t + 2 padding - kernel + 1, D)."""
        # On a CPU this is conv1d ten times as fast: that copies channels-last data and then takes a slow kernel.
        image, weight = x.transpose(1, 2)[:, :, None], self.weight[:, :, None]
        mixed = functional.conv2d(image, weight, self.bias, padding=(0, *self.padding), groups=self.groups)
        return mixed[:, :, 0].transpose(1, 2)


class ChunkCausalConv(nn.Module):
    """Depthwise convolution that sees its own chunk and the past (ZIPFORMER.md appendix A)."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.causal_conv = DepthwiseConv(dim, (kernel + 1) // 2)
        self.chunkwise_conv = DepthwiseConv(dim, kernel, padding=kernel // 2)
        self.chunkwise_conv_scale = nn.Parameter(torch.zeros(2, dim, kernel))

    def forward(self, x: Tensor, chunk: int) -> Tensor:
        """x (B, t, D), chunk in frames of this stack or -1 -> (B, t, D)."""
        batch, t, _ = x.shape
        chunk = t if chunk < 0 or chunk > t else chunk
        past = self.causal_conv(functional.pad(x, (0, 0, self.causal_conv.kernel_size[0] - 1, 0)))
        chunks = functional.pad(x, (0, 0, 0, -t % chunk)).unflatten(1, (-1, chunk)).flatten(0, 1)
        inside = self.chunkwise_conv(chunks) * self._edge_scale(chunk).T
        return past + inside.reshape(batch, -1, x.shape[2])[:, :t]

    def _edge_scale(self, chunk: int) -> Tensor:
        """(D, chunk)."""
        from_left, from_right = self.chunkwise_conv_scale
        kernel = from_left.shape[-1]
        left = functional.pad(from_left, (0, max(chunk - kernel, 0)))[:, :chunk]
        right = functional.pad(from_right, (max(chunk - kernel, 0), 0))[:, -chunk:]
        return 1.0 + left + right


class ConvModule(nn.Module):
    """Gated depthwise convolution over time; padded frames are zeroed before it."""

    def __init__(self, dim: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.in_proj = nn.Linear(dim, 2 * dim)
        self.depthwise_conv: nn.Module = (
            ChunkCausalConv(dim, kernel) if causal else DepthwiseConv(dim, kernel, padding=kernel // 2)
        )
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, padding: Tensor, chunk: int) -> Tensor:
        """x (B, t, D), padding (B, t) bool -> (B, t, D)."""
        gated = functional.glu(self.in_proj(x), dim=-1).masked_fill(padding[..., None], 0.0)
        mixed = self.depthwise_conv(gated, chunk) if self.causal else self.depthwise_conv(gated)
        return self.out_proj(swoosh_r(mixed))


@dataclass
class Masks:
    """What a stack must not look at, at its own rate, with its table of relative positions."""

    padding: Tensor
    """(B, t) bool, True at padding."""
    hidden: Tensor
    """(B, 1, t or 1, t) bool, True where a key is not seen."""
    positions: Tensor
    """(2t - 1, P) float32."""
    chunk: int
    """Chunk of a causal model in frames of the stack; -1 is the whole input."""


class Layer(nn.Module):
    """One Zipformer layer (ZIPFORMER.md section 7)."""

    def __init__(self, config: ZipformerConfig, stack: int) -> None:
        super().__init__()
        dim, hidden = config.encoder_dim[stack], config.feedforward_dim[stack]
        heads, kernel = config.num_heads[stack], config.cnn_module_kernel[stack]
        query, pos, value = (
            config.query_head_dim[stack],
            config.pos_head_dim[stack],
            config.value_head_dim[stack],
        )
        self.self_attn_weights = AttentionWeights(dim, heads, query, pos, config.pos_dim)
        self.self_attn1 = SelfAttention(dim, heads, value)
        self.self_attn2 = SelfAttention(dim, heads, value)
        self.feed_forward1 = FeedForward(dim, 3 * hidden // 4)
        self.feed_forward2 = FeedForward(dim, hidden)
        self.feed_forward3 = FeedForward(dim, 5 * hidden // 4)
        self.nonlin_attention = NonlinAttention(dim)
        self.conv_module1 = ConvModule(dim, kernel, config.causal)
        self.conv_module2 = ConvModule(dim, kernel, config.causal)
        self.norm = BiasNorm(dim)
        self.bypass = Bypass(dim)
        self.bypass_mid = Bypass(dim)

    def forward(self, x: Tensor, masks: Masks) -> Tensor:
        """(B, t, D) -> (B, t, D)."""
        source = x
        weights = self.self_attn_weights(x, masks.positions, masks.hidden)
        x = x + self.feed_forward1(x)
        x = x + self.nonlin_attention(x, weights[:, 0])
        x = x + self.self_attn1(x, weights)
        x = x + self.conv_module1(x, masks.padding, masks.chunk)
        x = x + self.feed_forward2(x)
        x = self.bypass_mid(source, x)
        x = x + self.self_attn2(x, weights)
        x = x + self.conv_module2(x, masks.padding, masks.chunk)
        x = x + self.feed_forward3(x)
        return self.bypass(source, self.norm(x))


class Downsample(nn.Module):
    """Weighted sum of each `factor` neighbouring frames; the tensor's last frame fills the last group."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T', D) -> (B, ceil(T' / factor), D)."""
        batch, num, dim = x.shape
        groups = (num + self.factor - 1) // self.factor
        # By index, and not by padding, so that compiled code does not depend on how much is missing.
        frames = torch.arange(groups * self.factor, device=x.device).clamp(max=num - 1)
        grouped = x.index_select(1, frames).view(batch, groups, self.factor, dim)
        return torch.matmul(self.bias.softmax(dim=0), grouped)


class Layers(nn.Module):
    """The layers of a stack at its own rate."""

    def __init__(self, config: ZipformerConfig, stack: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, stack) for _ in range(config.num_encoder_layers[stack]))

    def forward(self, x: Tensor, masks: Masks) -> Tensor:
        """(B, t, D) -> (B, t, D)."""
        for layer in self.layers:
            x = layer(x, masks)
        return x


class DownsampledLayers(nn.Module):
    """Layers at 1/factor of the frontend's rate, gated back into the input."""

    def __init__(self, config: ZipformerConfig, stack: int) -> None:
        super().__init__()
        self.factor = config.downsampling_factor[stack]
        self.downsample = Downsample(self.factor)
        self.encoder = Layers(config, stack)
        self.out_combiner = Bypass(config.encoder_dim[stack])

    def forward(self, x: Tensor, masks: Masks) -> Tensor:
        """(B, T', D) -> (B, T', D)."""
        low = self.encoder(self.downsample(x), masks)
        frames = torch.arange(x.shape[1], device=x.device) // self.factor
        return self.out_combiner(x, low.index_select(1, frames))


def resize(x: Tensor, dim: int) -> Tensor:
    """(..., D) -> (..., dim): cut, or filled with zero channels."""
    return x[..., :dim] if x.shape[-1] >= dim else functional.pad(x, (0, dim - x.shape[-1]))


class Stacks(nn.Module):
    """The stacks of different rates and widths, and how their outputs are joined (ZIPFORMER.md section 5)."""

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleList(
            Layers(config, i) if factor == 1 else DownsampledLayers(config, i)
            for i, factor in enumerate(config.downsampling_factor)
        )
        self.downsample_output = Downsample(2)

    def forward(
        self, x: Tensor, padding: Tensor, chunk: int, left_context: int, alone: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """x (B, T', D_0), padding (B, T') -> encoder_out (B, ceil(T'/2), D), and each stack's output (B, T', D_i)."""
        outs: list[Tensor] = []
        held = _held(padding) if alone else None
        for stack, dim, factor in zip(
            self.encoders, self.config.encoder_dim, self.config.downsampling_factor, strict=True
        ):
            x = stack(resize(_filled(x, held), dim), self._masks(padding, factor, chunk, left_context))
            outs.append(x)
        joined = outs[-1]
        for out in reversed(outs[:-1]):
            joined = torch.cat([joined, out[..., joined.shape[-1] :]], dim=-1)
        return self.downsample_output(_filled(joined, held)), outs

    def _masks(self, padding: Tensor, factor: int, chunk: int, left_context: int) -> Masks:
        low = padding[:, ::factor]
        hidden = low[:, None, None, :]
        if chunk >= 0:
            hidden = (
                hidden
                | _outside_chunks(padding.shape[1], chunk, left_context, padding.device)[::factor, ::factor]
            )
        positions = relative_positions(low.shape[1], self.config.pos_dim, padding.device)
        return Masks(low, hidden, positions, chunk if chunk < 0 else chunk // factor)


def _held(padding: Tensor) -> Tensor:
    """(B, T') int64 of padding (B, T') bool: the frame itself, and at padding the item's last, as a tensor's own end is downsampled."""
    frames = torch.arange(padding.shape[1], device=padding.device)
    return frames.minimum((~padding).sum(dim=1, keepdim=True) - 1)


def _filled(x: Tensor, frames: Tensor | None) -> Tensor:
    """x (B, T', D) at frames (B, T')."""
    return x if frames is None else x.gather(1, frames[..., None].expand(-1, -1, x.shape[2]))


def _outside_chunks(num_frames: int, chunk: int, left_context: int, device: torch.device) -> Tensor:
    """(T', T') bool: True where the key's chunk is later than the query's, or further back than the left context."""
    index = torch.arange(num_frames, device=device) // chunk
    behind = index[:, None] - index[None, :]
    if left_context < 0:
        return behind < 0
    return (behind < 0) | (behind > max(left_context // chunk, 1))


class Zipformer(nn.Module):
    """Speech encoder: log-mel features at 100 Hz to vectors at 25 Hz."""

    window = 5000
    """Feature frames that are encoded together at most: 50 s, the longest that the original evaluates."""
    stride = 4
    """Feature frames to an encoder frame."""
    padding = math.log(1e-10)
    """What fills the features of a batch."""

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_embed = Frontend(config.feature_dim, config.encoder_dim[0])
        self.encoder = Stacks(config)

    @property
    def num_features(self) -> int:
        """Width F of a feature frame."""
        return self.config.feature_dim

    @property
    def output_dim(self) -> int:
        """Width of `encoder_out`."""
        return self.config.output_dim

    @property
    def can_mask(self) -> bool:
        """Whether `forward` knows `alone`. A causal convolution weighs a frame by its distance to the tensor's end."""
        return not self.config.causal

    def forward(
        self,
        x: Tensor,
        x_lens: Tensor,
        chunk: int | None = None,
        left_context: int | None = None,
        alone: bool = False,
    ) -> ZipformerOutput:
        """Encode a batch.

        Args:
            x: (B, T, F) float, Kaldi log-mel frames at 100 Hz padded with log(1e-10); T is the longest of `x_lens`.
            x_lens: (B,) int64, frames of each item.
            chunk: causal models only: frames of 50 Hz that are seen together, -1 all; None takes the config's last.
            left_context: causal models only: frames of 50 Hz seen before the chunk, -1 all; None takes the config's last.
            alone: keep the padding, which nothing masks in the frontend and when frames are joined, from every item: each
                is what it would be alone. `x_lens` are at least nine, and the model is not causal.

        Raises:
            ValueError: T is below nine frames.
        """
        if x.shape[1] < MIN_FRAMES:
            raise ValueError(
                f"{x.shape[1]} feature frames are too few to encode: at least {MIN_FRAMES} are needed"
            )
        if alone:
            each = [self.encoder_embed(x[i : i + 1, :num])[0] for i, num in enumerate(x_lens.tolist())]
            embedded = pad_sequence(each, batch_first=True)
        else:
            embedded = self.encoder_embed(x)
        return self.encode_embedded(embedded, x_lens, chunk, left_context, alone)

    def encode_embedded(
        self,
        embedded: Tensor,
        x_lens: Tensor,
        chunk: int | None = None,
        left_context: int | None = None,
        alone: bool = False,
    ) -> ZipformerOutput:
        """The part behind the frontend: `embedded` (B, T', D_0) at 50 Hz, the rest as in `forward`."""
        causal = self.config.causal
        chunk = self.config.chunk_size[-1] if chunk is None else chunk
        left_context = self.config.left_context_frames[-1] if left_context is None else left_context
        lens = torch.div(x_lens - 7, 2, rounding_mode="floor")
        padding = torch.arange(embedded.shape[1], device=embedded.device) >= lens[:, None]
        encoder_out, stack_outs = self.encoder(
            embedded, padding, chunk if causal else -1, left_context, alone
        )
        out_lens = torch.div(lens + 1, 2, rounding_mode="floor").clamp(min=0)
        return ZipformerOutput(encoder_out, out_lens, stack_outs)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Zipformer:
        """Load config.json and the weights of a folder (ZIPFORMER.md section 2); composite checkpoints are unwrapped.

        Raises:
            ModelError: no config or weights there, or keys missing or left over; they are named.
        """
        return cls.from_state(*load_state_dict(Path(folder)), where=str(folder))

    @classmethod
    def from_state(cls, values: dict[str, Any], state: dict[str, Tensor], where: str) -> Zipformer:
        """Build from the content of a config.json and the tensors by name; `where` is for messages.

        Raises:
            ModelError: keys are missing or left over; they are named.
        """
        model = cls(ZipformerConfig.from_dict(values))
        state = cls.without_unused(state)
        match_keys(model, state, where)
        model.load_state_dict({k: v.float() for k, v in state.items()})
        return model.eval()

    @staticmethod
    def without_unused(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the names that published checkpoints hold and inference never reads."""
        return {k: v for k, v in state.items() if k != "model_batch_count" and not _is_unused(k)}

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json and model.safetensors, tensors as `dtype`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config.to_dict(), indent=1) + "\n")
        write_tensors({k: v.to(dtype) for k, v in self.state_dict().items()}, folder / "model.safetensors")


def _is_unused(key: str) -> bool:
    """The layer's own `bypass_scale` (E.bypass_scale), unlike those of its `bypass` and `bypass_mid`."""
    parts = key.split(".")
    return parts[-1] == "bypass_scale" and parts[-2].isdigit()
