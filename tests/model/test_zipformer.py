"""The encoder against outputs of the original implementation."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from azeros.errors import ModelError
from azeros.model.zipformer import DepthwiseConv, Zipformer, ZipformerConfig, swoosh_l, swoosh_r
from tests.conftest import ROOT

CASES = ["six_stack", "two_stack", "odd_dims", "causal_chunk16"]


@pytest.mark.parametrize("case", CASES)
def test_equals_the_original_before_each_length(golden: Path, case: str) -> None:
    folder = golden / "zipformer" / case
    model, tensors = Zipformer.from_pretrained(folder / "model"), load_file(folder / "io.safetensors")
    num_batches = len(json.loads((folder / "meta.json").read_text())["batches"])
    assert num_batches
    for index in range(num_batches):
        with torch.no_grad():
            out = model(tensors[f"b{index}.x"], tensors[f"b{index}.x_lens"])
        lens = tensors[f"b{index}.encoder_out_lens"].clamp(min=0)
        assert torch.equal(out.encoder_out_lens, lens)
        for item, expected, length in zip(
            out.encoder_out, tensors[f"b{index}.encoder_out"], lens, strict=True
        ):
            torch.testing.assert_close(item[:length], expected[:length], rtol=0, atol=2e-5)


def test_full_size_model_has_the_published_tensors(golden: Path) -> None:
    published = json.loads((golden / "zipformer" / "m_config_state_dict.json").read_text())
    with torch.device("meta"):
        own = Zipformer(ZipformerConfig.from_dict(published["config"])).state_dict()
    wanted = Zipformer.without_unused({k: torch.empty(v[1]) for k, v in published["state_dict"].items()})
    assert {k: tuple(v.shape) for k, v in own.items()} == {k: tuple(v.shape) for k, v in wanted.items()}


def tiny() -> Zipformer:
    torch.manual_seed(0)
    lists = {"encoder_dim": [16, 24], "feedforward_dim": [24], "num_encoder_layers": [1]}
    values = {"downsampling_factor": [1, 2], "num_heads": [2], "cnn_module_kernel": [7], "pos_dim": 8} | lists
    return Zipformer(ZipformerConfig.from_dict(values)).eval()


@pytest.mark.parametrize("swoosh", [swoosh_l, swoosh_r])
def test_swoosh_and_its_gradient(swoosh: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-60, 60, 25, dtype=torch.float64, requires_grad=True)
    shift, offset = (4.0, 0.035) if swoosh is swoosh_l else (1.0, 0.313261687)
    expected = torch.logaddexp(x - shift, torch.zeros_like(x)) - 0.08 * x - offset
    torch.testing.assert_close(swoosh(x), expected, atol=1e-14, rtol=1e-14)
    assert torch.autograd.gradcheck(swoosh, x)


def test_depthwise_conv_is_conv1d() -> None:
    conv, x = DepthwiseConv(6, 5, padding=2), torch.randn(2, 11, 6)
    torch.testing.assert_close(conv(x).transpose(1, 2), nn.Conv1d.forward(conv, x.transpose(1, 2)))


def test_gradients_are_those_of_the_forward_pass() -> None:
    model = tiny().double()
    x, x_lens = torch.randn(2, 60, 80, dtype=torch.float64), torch.tensor([60, 47])
    direction = torch.randn_like(x)

    def loss(step: Tensor) -> Tensor:
        return model(x + step * direction, x_lens).encoder_out.square().sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss(step).backward()
    assert step.grad is not None
    difference = (loss(step + 1e-5) - loss(step - 1e-5)) / 2e-5
    torch.testing.assert_close(step.grad, difference.detach(), rtol=1e-6, atol=0)
    assert all(p.grad is not None for p in model.parameters())


def test_trains_under_autocast() -> None:
    model = tiny().train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(2, 60, 80), torch.tensor([60, 47])).encoder_out
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_round_trip_is_exact(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    again = Zipformer.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 9"):
        tiny()(torch.zeros(1, 8, 80), torch.tensor([8]))


def test_a_truncated_weight_file_is_named(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        Zipformer.from_pretrained(tmp_path)


@pytest.mark.slow
def test_one_compilation_without_a_break_serves_every_length() -> None:
    from torch._dynamo.testing import CompileCounter

    # In float32, where rounding alone comes near the tolerance, one element in ten thousand once differed by 1.05e-5.
    encoder = Zipformer.from_pretrained(ROOT / "azeros" / "tiny" / "weights" / "paraling_encoder").double()
    counter = CompileCounter()
    compiled = torch.compile(encoder, backend=counter, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for num in (200, 333, 334, 401, 777):
            x, lens = torch.randn(2, num, 80, dtype=torch.float64) - 8, torch.tensor([num, num - 30])
            torch.testing.assert_close(compiled(x, lens).encoder_out, encoder(x, lens).encoder_out)
    assert counter.frame_count == 1
