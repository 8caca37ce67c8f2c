"""Our Zipformer against a plain transcription of its definition: same weights, one process, one thread, CPU time.

The plain version follows the formulas of the published model one operation at a time (Yao et al., Zipformer, ICLR 2024, in the flavour of Auden):
it is what the faster one must equal, and what the speed is measured against.

Letters: B batch, T feature frames (100 Hz), t frames inside a stack, D width, H heads.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import azeros.tiny
from azeros.model.zipformer import Zipformer, ZipformerConfig

State = dict[str, Tensor]
TINY = Path(azeros.tiny.__file__).parent / "weights" / "speech_encoder"
# The published encoder of 153 million parameters.
LARGE = {
    "encoder_dim": [192, 256, 512, 768, 512, 256],
    "feedforward_dim": [576, 768, 1536, 2304, 1536, 768],
    "num_encoder_layers": [2, 2, 4, 5, 4, 2],
}
# Sums of hundreds of float32 terms in another order, through 19 layers.
TOLERANCE = 1e-3


def softplus(u: Tensor) -> Tensor:
    """log(1 + exp(u)), any shape."""
    return torch.logaddexp(u, torch.zeros_like(u))


def swoosh_l(x: Tensor) -> Tensor:
    """Any shape."""
    return softplus(x - 4) - 0.08 * x - 0.035


def swoosh_r(x: Tensor) -> Tensor:
    """Any shape."""
    return softplus(x - 1) - 0.08 * x - 0.313261687


def linear(state: State, name: str, x: Tensor) -> Tensor:
    """(..., D) -> (..., D'), with the bias if there is one."""
    return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def bias_norm(state: State, name: str, x: Tensor) -> Tensor:
    """(..., D) -> (..., D)."""
    mean_square = ((x - state[f"{name}.bias"]) ** 2).mean(dim=-1, keepdim=True)
    return x * torch.exp(state[f"{name}.log_scale"]) / torch.sqrt(mean_square)


def bypass(state: State, name: str, a: Tensor, b: Tensor) -> Tensor:
    """(..., D), (..., D) -> (..., D)."""
    return a + (b - a) * state[f"{name}.bypass_scale"]


def frontend(state: State, x: Tensor) -> Tensor:
    """(B, T, F) -> (B, (T - 7) // 2, D)."""

    def conv(name: str, x: Tensor, stride: int | tuple[int, int], padding: int | tuple[int, int]) -> Tensor:
        weight, bias = state[f"encoder_embed.{name}.weight"], state[f"encoder_embed.{name}.bias"]
        return functional.conv2d(x, weight, bias, stride, padding, groups=x.shape[1] // weight.shape[1])

    x = x[:, None]
    x = swoosh_r(conv("conv.0", x, 1, (0, 1)))
    x = swoosh_r(conv("conv.4", x, 2, 0))
    x = swoosh_r(conv("conv.7", x, (1, 2), 0))
    hidden = conv("convnext.depthwise_conv", x, 1, 3)
    hidden = swoosh_l(conv("convnext.pointwise_conv1", hidden, 1, 0))
    x = x + conv("convnext.pointwise_conv2", hidden, 1, 0)
    x = linear(state, "encoder_embed.out", x.transpose(1, 2).flatten(2))
    return bias_norm(state, "encoder_embed.out_norm", x)


def position_table(t: int, dim: int) -> Tensor:
    """(2t - 1, P)."""
    offset = torch.arange(1 - t, t, dtype=torch.float32)
    c = math.sqrt(dim)
    u = c * torch.sign(offset) * (torch.log(torch.abs(offset) + c) - math.log(c))
    angle = torch.atan(u * 2 * math.pi / dim)
    table = torch.zeros(2 * t - 1, dim)
    for k in range(dim // 2):
        table[:, 2 * k] = torch.cos((k + 1) * angle)
        table[:, 2 * k + 1] = torch.sin((k + 1) * angle)
    table[:, -1] = 1.0
    return table


def attention_weights(
    state: State, name: str, x: Tensor, padding: Tensor, table: Tensor, num_heads: int, query_dim: int
) -> Tensor:
    """x (B, t, D), padding (B, t) -> (B, H, t, t)."""
    batch, t, _ = x.shape
    z = linear(state, f"{name}.in_proj", x)
    width = num_heads * query_dim
    query = z[..., :width].reshape(batch, t, num_heads, query_dim).transpose(1, 2)
    key = z[..., width : 2 * width].reshape(batch, t, num_heads, query_dim).transpose(1, 2)
    pos = z[..., 2 * width :].reshape(batch, t, num_heads, -1).transpose(1, 2)
    relative = linear(state, f"{name}.linear_pos", table).reshape(2 * t - 1, num_heads, -1).transpose(0, 1)
    by_offset = pos @ relative.transpose(1, 2)
    frames = torch.arange(t)
    column = frames[None, :] - frames[:, None] + t - 1
    scores = query @ key.transpose(2, 3) + by_offset.gather(3, column.expand(batch, num_heads, t, t))
    return scores.masked_fill(padding[:, None, None, :], -1000.0).softmax(dim=-1)


def self_attention(state: State, name: str, x: Tensor, weights: Tensor) -> Tensor:
    """x (B, t, D), weights (B, H, t, t) -> (B, t, D)."""
    values = linear(state, f"{name}.in_proj", x).unflatten(2, (weights.shape[1], -1)).transpose(1, 2)
    return linear(state, f"{name}.out_proj", (weights @ values).transpose(1, 2).flatten(2))


def feed_forward(state: State, name: str, x: Tensor) -> Tensor:
    """(B, t, D) -> (B, t, D)."""
    return linear(state, f"{name}.out_proj", swoosh_l(linear(state, f"{name}.in_proj", x)))


def nonlin_attention(state: State, name: str, x: Tensor, weights: Tensor) -> Tensor:
    """x (B, t, D), weights (B, t, t) -> (B, t, D)."""
    s, v, y = linear(state, f"{name}.in_proj", x).chunk(3, dim=-1)
    return linear(state, f"{name}.out_proj", (weights @ (torch.tanh(s) * v)) * y)


def conv_module(state: State, name: str, x: Tensor, padding: Tensor) -> Tensor:
    """x (B, t, D), padding (B, t) -> (B, t, D)."""
    a, g = linear(state, f"{name}.in_proj", x).chunk(2, dim=-1)
    u = (a * torch.sigmoid(g)).masked_fill(padding[..., None], 0.0)
    weight, bias = state[f"{name}.depthwise_conv.weight"], state[f"{name}.depthwise_conv.bias"]
    u = functional.conv1d(
        u.transpose(1, 2), weight, bias, padding=weight.shape[2] // 2, groups=weight.shape[0]
    )
    return linear(state, f"{name}.out_proj", swoosh_r(u).transpose(1, 2))


def layer(
    state: State, name: str, x: Tensor, padding: Tensor, table: Tensor, num_heads: int, query_dim: int
) -> Tensor:
    """x (B, t, D), padding (B, t) -> (B, t, D)."""
    x0 = x
    weights = attention_weights(state, f"{name}.self_attn_weights", x0, padding, table, num_heads, query_dim)
    x = x + feed_forward(state, f"{name}.feed_forward1", x)
    x = x + nonlin_attention(state, f"{name}.nonlin_attention", x, weights[:, 0])
    x = x + self_attention(state, f"{name}.self_attn1", x, weights)
    x = x + conv_module(state, f"{name}.conv_module1", x, padding)
    x = x + feed_forward(state, f"{name}.feed_forward2", x)
    x = bypass(state, f"{name}.bypass_mid", x0, x)
    x = x + self_attention(state, f"{name}.self_attn2", x, weights)
    x = x + conv_module(state, f"{name}.conv_module2", x, padding)
    x = x + feed_forward(state, f"{name}.feed_forward3", x)
    x = bias_norm(state, f"{name}.norm", x)
    return bypass(state, f"{name}.bypass", x0, x)


def downsample(state: State, name: str, x: Tensor, factor: int) -> Tensor:
    """(B, T', D) -> (B, ceil(T' / factor), D)."""
    share = torch.softmax(state[f"{name}.bias"], dim=0)
    missing = -x.shape[1] % factor
    x = torch.cat([x] + [x[:, -1:]] * missing, dim=1)
    return (x.unflatten(1, (-1, factor)) * share[:, None]).sum(dim=2)


def plain_encoder(state: State, config: ZipformerConfig, x: Tensor, x_lens: Tensor) -> Tensor:
    """x (B, T, F), x_lens (B,) -> encoder_out (B, ceil(T' / 2), D)."""
    x = frontend(state, x)
    frames = torch.arange(x.shape[1])
    padding = frames[None, :] >= ((x_lens - 7) // 2)[:, None]
    outs = []
    for i, factor in enumerate(config.downsampling_factor):
        missing = config.encoder_dim[i] - x.shape[2]
        x = functional.pad(x, (0, missing)) if missing > 0 else x[..., : config.encoder_dim[i]]
        name = f"encoder.encoders.{i}"
        low = x if factor == 1 else downsample(state, f"{name}.downsample", x, factor)
        table = position_table(low.shape[1], config.pos_dim)
        for j in range(config.num_encoder_layers[i]):
            low = layer(
                state, f"{name}.layers.{j}" if factor == 1 else f"{name}.encoder.layers.{j}", low,
                padding[:, ::factor], table, config.num_heads[i], config.query_head_dim[i],
            )  # fmt: skip
        if factor == 1:
            x = low
        else:
            up = low.repeat_interleave(factor, dim=1)[:, : x.shape[1]]
            x = bypass(state, f"{name}.out_combiner", x, up)
        outs.append(x)
    y = outs[-1]
    for out in reversed(outs[:-1]):
        if out.shape[2] > y.shape[2]:
            y = torch.cat([y, out[..., y.shape[2] :]], dim=2)
    return downsample(state, "encoder.downsample_output", y, 2)


def random_large() -> Zipformer:
    """The large configuration with weights under which float32 is accurate: bypasses in [0.2, 1], attention of modest contrast."""
    torch.manual_seed(0)
    model = Zipformer(ZipformerConfig.from_dict(LARGE)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bypass_scale"):
            torch.nn.init.uniform_(parameter, 0.2, 1.0)
        elif name.endswith(("norm.bias", "downsample.bias", "downsample_output.bias")):
            torch.nn.init.normal_(parameter, std=0.3)
        elif "self_attn_weights.in_proj" in name:
            parameter.data.mul_(0.5)
    return model


def cpu_times_s(functions: list[Callable[[], object]], num_rounds: int) -> list[float]:
    """Median CPU time of each in seconds; they take turns, so that whatever slows the machine slows all of them."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(num_rounds):
        for function, own in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            own.append(time.process_time() - start)
    return [statistics.median(own) for own in times]


def main() -> None:
    """Compare outputs, then times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="the shipped tiny speech encoder on 13 x 2 s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; the median counts (default 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = Zipformer.from_pretrained(TINY) if args.tiny else random_large()
    batch, num_frames = (13, 200) if args.tiny else (4, 1000)
    torch.manual_seed(1)
    # Unequal lengths, so that masks matter; values as log-mel has them.
    x, x_lens = torch.randn(batch, num_frames, 80) * 3 - 8, num_frames - 13 * torch.arange(batch)
    state = model.state_dict()
    with torch.inference_mode():
        out, plain = model(x, x_lens), plain_encoder(state, model.config, x, x_lens)
        items = zip(out.encoder_out, plain, out.encoder_out_lens.tolist(), strict=True)
        difference = max((ours[:num] - theirs[:num]).abs().max().item() for ours, theirs, num in items)
        print(
            f"greatest difference before each length: {difference:.1e} (of values up to {plain.abs().max():.1f})"
        )
        if not difference <= TOLERANCE:
            raise SystemExit(f"the two encoders disagree by more than {TOLERANCE}")
        plain_s, ours_s = cpu_times_s(
            [lambda: plain_encoder(state, model.config, x, x_lens), lambda: model(x, x_lens)], args.rounds
        )
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"{millions:.1f}M parameters, {batch} x {num_frames / 100:g} s, one thread, CPU time: plain {plain_s * 1e3:.0f} ms, "
        f"ours {ours_s * 1e3:.0f} ms: {plain_s / ours_s:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
