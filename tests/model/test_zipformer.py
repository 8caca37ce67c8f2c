"""The encoder against outputs of the original implementation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from azeros.errors import ModelError
from azeros.model.zipformer import Zipformer, ZipformerConfig

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
