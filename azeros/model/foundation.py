"""The parts of a model: each is loaded from a folder of its own, or out of one weight file."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from azeros.errors import ModelError, one_line
from azeros.model.checkpoint import (
    PROJECTORS,
    find_weights,
    load_state_dict,
    read_config,
    read_weights,
    take_prefix,
)
from azeros.model.config import AUDIO_TOKEN, FORMAT_VERSION, AzerosConfig
from azeros.params import Pretrained

Source = str | Path | Pretrained
"""A folder, or a hub id; `Pretrained` pins a revision."""


@dataclass(frozen=True)
class LLMOptions:
    """How transformers loads the language model; encoders and projectors are float32, whatever it says."""

    dtype: torch.dtype | str = torch.float32
    device_map: Any = None
    attn_implementation: str | None = None
    quantization_config: Any = None

    def given(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}


# Have transformers tell all that does not fit, to name it, in place of a warning or an error of its own.
_REPORTING = {"output_loading_info": True, "ignore_mismatched_sizes": True}
_PARTS = ("llm", "speech_encoder", "paraling_encoder", *PROJECTORS)


@dataclass
class Parts:
    """What a model is joined from."""

    config: AzerosConfig
    tokenizer: Any
    llm: Any
    speech_encoder: nn.Module
    paraling_encoder: nn.Module | None
    projectors: dict[str, Tensor]
    """Tensors by their name in the model; empty where projectors are to be drawn afresh."""


def load_foundation(
    llm: Source, speech_encoder: Source, paraling_encoder: Source | None, options: LLMOptions
) -> Parts:
    """Frozen models from folders or hub repositories of their own, with no projectors yet.

    Raises:
        ModelError: a model is missing, damaged or of an unknown type.
    """
    speech = load_encoder(fetch(speech_encoder))
    paraling = load_encoder(fetch(paraling_encoder)) if paraling_encoder else None
    folder = fetch(llm)
    language = load_llm(folder, options)
    sources = {"llm": llm, "speech_encoder": speech_encoder, "paraling_encoder": paraling_encoder}
    config = AzerosConfig(
        llm_config=language.config,
        speech_encoder_config=_encoder_config(speech),
        paraling_encoder_config=_encoder_config(paraling) if paraling else None,
        foundation={name: _described(source) for name, source in sources.items() if source},
    )
    return Parts(config, load_tokenizer(folder), language, speech, paraling, {})


def load_parts(path: Path, options: LLMOptions) -> Parts:
    """The parts of a saved model.

    Those that the weight file does not hold come from folders beside it, or from where the config says that they are.

    Args:
        path: the model's folder, or a weight file in it.
        options: of the language model.

    Raises:
        ModelError: something is missing, damaged or does not fit; files and tensors are named.
    """
    folder = path.parent if path.is_file() else path
    weights = path if path.is_file() else find_weights(folder)
    config = _read_config(folder)
    state = read_weights(weights)
    wanted = [name for name in _PARTS if config.paraling_encoder_config or not name.startswith("paraling")]
    unexpected = sorted(key for key in state if key.partition(".")[0] not in wanted)
    if unexpected:
        named = ", ".join(unexpected[:3])
        raise ModelError(f"{weights}: {len(unexpected)} unexpected: {named}: use the files of one model")
    encoders = {
        name: _take_encoder(name, config, state, weights)
        for name in ("speech_encoder", "paraling_encoder")
        if name in wanted
    }
    projectors = {k: v for k, v in state.items() if k.startswith(PROJECTORS)}
    llm = _take_llm(config, state, weights, options)
    config.llm_config = llm.config
    paraling = encoders.get("paraling_encoder")
    return Parts(config, load_tokenizer(folder), llm, encoders["speech_encoder"], paraling, projectors)


def _read_config(folder: Path) -> AzerosConfig:
    values = read_config(folder)
    if values.get("model_type") != AzerosConfig.model_type:
        found = values.get("model_type")
        raise ModelError(f"{folder}/config.json: a model of type {found!r}: give an azeros model")
    if values.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        found = values["format_version"]
        raise ModelError(
            f"{folder}/config.json: its format_version is {found} and this azeros reads {FORMAT_VERSION}: upgrade azeros"
        )
    try:
        return AzerosConfig(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder}/config.json: llm_config is not understood ({one_line(error)}): fetch it again"
        ) from error


def _take_encoder(name: str, config: AzerosConfig, state: dict[str, Tensor], weights: Path) -> nn.Module:
    """The encoder out of `state`, or else from where it lies."""
    if inner := take_prefix(state, name):
        return build_encoder(getattr(config, f"{name}_config"), inner, f"{weights}: {name}")
    return load_encoder(_elsewhere(weights, name, config))


def _take_llm(config: AzerosConfig, state: dict[str, Tensor], weights: Path, options: LLMOptions) -> Any:
    """The language model out of `state`, or else from where it lies."""
    if not (inner := take_prefix(state, "llm")):
        return load_llm(_elsewhere(weights, "llm", config), options)
    from transformers import GenerationConfig

    llm = build_llm(config.llm_config, inner, options, str(weights))
    if (weights.parent / "generation_config.json").is_file():
        llm.generation_config = GenerationConfig.from_pretrained(weights.parent)
    return llm


def _elsewhere(weights: Path, name: str, config: AzerosConfig) -> Path:
    """The folder of a part that `weights` does not hold."""
    if (weights.parent / name).is_dir():
        return weights.parent / name
    if config.foundation and name in config.foundation:
        return fetch(Pretrained(**config.foundation[name]))
    raise ModelError(
        f"{weights}: missing {name}.*, and there is no folder {name} beside it: fetch the model again"
    )


def _described(source: Source) -> dict[str, Any]:
    """The source as a config holds it."""
    if isinstance(source, Pretrained):
        return {"path": source.path, "revision": source.revision}
    return {"path": str(source), "revision": None}


def _encoder_config(encoder: Any) -> dict[str, Any]:
    return dict(encoder.config.to_dict())


def fetch(source: Source, revision: str | None = None, **hub: Any) -> Path:
    """The local path of a model; a hub id is downloaded, or taken from the hub's cache.

    Args:
        source: a path or a hub id.
        revision: of a hub id.
        hub: options of huggingface_hub's snapshot_download (token, cache_dir, local_files_only).

    Raises:
        ModelError: neither a path nor a hub id that can be had.
    """
    if isinstance(source, Pretrained):
        return fetch(source.path, source.revision, **hub)
    if Path(source).exists():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), revision=revision, **hub))
    except (OSError, ValueError) as error:  # every error of the hub's client is one of these
        raise ModelError(
            f"{source}: no such folder, and not to be had from the hub ({one_line(error)}): correct the path"
        ) from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of `folder`; `<|AUDIO|>` is added behind its last token if it is not there.

    The embedding matrix keeps its size: no embedding of `<|AUDIO|>` is ever looked up.

    Raises:
        ModelError: there is no tokenizer.
    """
    from transformers import AddedToken, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # a broken tokenizer raises whatever its parser does
        raise ModelError(
            f"{folder}: no tokenizer loads from it ({one_line(error)}): its files belong there"
        ) from error
    if AUDIO_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(AUDIO_TOKEN, special=True, normalized=False)], special_tokens=True)
    return tokenizer


def load_llm(folder: Path, options: LLMOptions) -> Any:
    """The language model of `folder`.

    Raises:
        ModelError: none is there, or tensors are missing or left over; they are named.
    """
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    try:
        llm, loading = auto.from_pretrained(folder, **options.given(), **_REPORTING)
    except Exception as error:  # transformers raises many types
        raise ModelError(
            f"{folder}: no language model loads from it ({one_line(error)}): mend what it says, or fetch it again"
        ) from error
    _check_loading(loading, str(folder))
    return llm


def build_llm(config: Any, state: dict[str, Tensor], options: LLMOptions, where: str) -> Any:
    """The language model of `config` with the tensors `state`.

    Raises:
        ModelError: tensors are missing, left over or of another shape; they are named.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    builder: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    llm, loading = builder.from_pretrained(
        None, config=copy.deepcopy(config), state_dict=state, **options.given(), **_REPORTING
    )
    _check_loading(loading, f"{where}: llm")
    return llm


def load_encoder(folder: Path) -> nn.Module:
    """The encoder of `folder`, by the model_type in its config.json.

    Raises:
        ModelError: none is there, it is of an unknown type, or tensors are missing or left over.
    """
    values, state = load_state_dict(folder)
    return build_encoder(values, state, str(folder))


def build_encoder(values: dict[str, Any], state: dict[str, Tensor], where: str) -> nn.Module:
    """The encoder with the config `values` and the tensors `state`, always float32.

    Raises:
        ModelError: an unknown type, or tensors are missing or left over; they are named.
    """
    kind = values.get("model_type")
    if kind == "zipformer":
        from azeros.model.zipformer import Zipformer

        return Zipformer.from_state(values, state, where)
    if kind == "whisper":
        from azeros.model.whisper import WhisperSpeechEncoder

        return WhisperSpeechEncoder.from_state(values, state, where)
    raise ModelError(f"{where}: an encoder of type {kind!r} is not known: use zipformer or whisper")


def _check_loading(loading: dict[str, Any], where: str) -> None:
    """Raise ModelError if tensors were missing, left over or of another shape."""
    names = {
        "missing": sorted(loading["missing_keys"]),
        "unexpected": sorted(loading["unexpected_keys"]),
        "of another shape": sorted(key for key, *_ in loading["mismatched_keys"]),
    }
    found = [f"{len(keys)} {what}: {', '.join(keys[:3])}" for what, keys in names.items() if keys]
    if found:
        raise ModelError(f"{where}: weights do not fit ({'; '.join(found)}): use the files of one model")
