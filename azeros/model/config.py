"""`config.json` of an AZeroS model (spec/AZEROS.md section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

AUDIO_TOKEN = "<|AUDIO|>"
FORMAT_VERSION = 1
PARALING_WRAPPED = f"<audio><meta>{AUDIO_TOKEN}</meta><text>{AUDIO_TOKEN}</text></audio>"


class AzerosConfig(PreTrainedConfig):
    """What an AZeroS model is made of.

    Attributes:
        llm_config: config of the language model.
        speech_encoder_config: content of the semantic encoder's config.json, a zipformer's or a whisper's.
        paraling_encoder_config: the same of the paralinguistic encoder; None in stage 1, which has none.
        speech_encoder_projector_ds_rate: encoder frames that one token of the language model takes.
        paraling_encoder_projector_ds_rate: the same of the paralinguistic branch.
        exclude_from_checkpoint: parts that lie in folders of their own beside the weight file.
        foundation: part -> hub id or path, and revision, of a frozen model that neither the weight file nor a folder
            beside it holds.
        max_audio_s: longer recordings are refused; up to there they are encoded in windows (azeros.model.encoding).
        format_version: of this file; a newer one than `FORMAT_VERSION` is refused.
        use_flash_attn: kept from the original's files, where it chose the attention of its training.
    """

    model_type = "azeros"

    def __init__(
        self,
        llm_config: PreTrainedConfig | dict[str, Any] | None = None,
        speech_encoder_config: dict[str, Any] | None = None,
        paraling_encoder_config: dict[str, Any] | None = None,
        speech_encoder_projector_ds_rate: int = 4,
        paraling_encoder_projector_ds_rate: int = 4,
        exclude_from_checkpoint: Sequence[str] = (),
        foundation: dict[str, dict[str, Any]] | None = None,
        max_audio_s: float = 600.0,
        format_version: int = FORMAT_VERSION,
        use_flash_attn: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(llm_config, dict):
            llm_config = CONFIG_MAPPING[llm_config["model_type"]](**llm_config)
        self.llm_config = llm_config
        self.speech_encoder_config = speech_encoder_config
        self.paraling_encoder_config = paraling_encoder_config
        self.speech_encoder_projector_ds_rate = speech_encoder_projector_ds_rate
        self.paraling_encoder_projector_ds_rate = paraling_encoder_projector_ds_rate
        self.exclude_from_checkpoint = list(exclude_from_checkpoint)
        self.foundation = foundation
        self.max_audio_s = max_audio_s
        self.format_version = format_version
        self.use_flash_attn = use_flash_attn
        super().__init__(**kwargs)

    @property
    def audio_token_wrapped(self) -> str:
        """How an audio stands in a message: one slot for each branch."""
        return PARALING_WRAPPED if self.paraling_encoder_config else AUDIO_TOKEN


# Lets AutoTokenizer and AutoConfig read a model's folder without a warning about its type.
AutoConfig.register(AzerosConfig.model_type, AzerosConfig)
