"""Speech LLMs that transformers knows (Qwen2-Audio, Qwen2.5-Omni, Qwen3-Omni, Phi-4-multimodal, Voxtral, ...), by their own classes and chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.errors import ModelError, one_line
from azeros.evaluation.systems.base import Modality, Reply, Request, answer_apart
from azeros.evaluation.systems.local import local_identity, place

if TYPE_CHECKING:
    from azeros.params import HearingSystem

# Where Phi-4-multimodal keeps what it adds to its language model for audio.
_SPEECH_ADAPTER = "speech-lora"


class HearingModel:
    """Greedy answers of any model that transformers' Auto classes load and whose processor takes audio in a conversation."""

    modality: Modality = "audio"
    takes_instructions = True

    def __init__(self, settings: HearingSystem) -> None:
        """Load the model, onto the GPU if there is one.

        Raises:
            ModelError: it is not there, is of a class that transformers does not know, or its processor takes no audio.
        """
        import torch
        from transformers import AutoConfig, AutoModelForMultimodalLM

        from azeros.model.foundation import fetch

        self.batch_size = settings.batch_size
        self.choice_suffix = settings.choice_suffix
        self._settings = settings
        self._folder = fetch(settings.model)
        auto: Any = AutoModelForMultimodalLM
        try:
            config = AutoConfig.from_pretrained(self._folder)
            self._processor: Any = _load_processor(self._folder, config)
            # The part of the omni models that writes; what speaks is left alone.
            model, loading = auto.from_pretrained(
                self._folder,
                config=getattr(config, "thinker_config", config),
                dtype=getattr(torch, settings.dtype),
                output_loading_info=True,
            )
            if loading["missing_keys"]:
                raise ValueError(f"no weights for {', '.join(sorted(loading['missing_keys'])[:3])}")
            if (self._folder / _SPEECH_ADAPTER).is_dir():
                model.load_adapter(str(self._folder / _SPEECH_ADAPTER))
        except Exception as error:  # transformers raises many types
            raise ModelError(
                f"{settings.model.path}: transformers does not load it ({one_line(error)}); mend benchmark.systems"
            ) from error
        if not getattr(self._processor, "chat_template", None):
            raise ModelError(
                f"{settings.model.path}: its processor has no chat template; serve it, and name it as an endpoint"
            )
        self._model = place(model)

    @property
    def identity(self) -> dict[str, Any]:
        """The files of the model and all settings; a repetition penalty that its authors set stays, and is said."""
        penalty = self._model.generation_config.repetition_penalty or 1.0
        decoding = "greedy" if penalty == 1.0 else f"greedy, repetition penalty {penalty:g}"
        return local_identity(self._settings, self._folder) | {"decoding": decoding}

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        """Replies to recordings of like length in one batch."""
        return answer_apart(requests, self._answer)

    def _answer(self, requests: Sequence[Request]) -> list[str]:
        import torch

        from azeros.data.audio import SAMPLING_RATE

        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"
        inputs = self._processor.apply_chat_template(
            [self._conversation(request) for request in requests],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "sampling_rate": SAMPLING_RATE},
        ).to(self._model.device, self._model.dtype)
        with torch.no_grad():
            ids = self._model.generate(
                **inputs,
                max_new_tokens=self._settings.max_new_tokens,
                eos_token_id=self._model.generation_config.eos_token_id or tokenizer.eos_token_id,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        new = ids[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _conversation(self, request: Request) -> list[dict[str, Any]]:
        system = self._settings.system_message
        parts: list[dict[str, Any]] = [{"type": "audio", "audio": request.recording.load()}]
        if request.instruction:
            parts.append({"type": "text", "text": request.instruction})
        first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
        return [*first, {"role": "user", "content": parts}]


def _load_processor(folder: Path, config: Any) -> Any:
    """The model's processor, without the parts that see: those want torchvision, and are shown nothing."""
    from transformers import PROCESSOR_MAPPING, AutoFeatureExtractor, AutoProcessor, AutoTokenizer

    kind: Any = PROCESSOR_MAPPING.get(type(config), None)
    wanted = kind.get_attributes() if kind else []
    if "image_processor" not in wanted:
        return AutoProcessor.from_pretrained(folder)

    class Blind(kind):  # type: ignore[misc]
        def check_argument_for_proper_class(self, name: str, part: Any) -> Any:
            return part and super().check_argument_for_proper_class(name, part)

    hearing: dict[str, Any] = {
        "tokenizer": AutoTokenizer, "feature_extractor": AutoFeatureExtractor, "audio_processor": AutoFeatureExtractor
    }  # fmt: skip
    processor: Any = Blind(
        *(hearing[name].from_pretrained(folder) if name in hearing else None for name in wanted)
    )
    saved, _ = kind.get_processor_dict(folder)
    processor.chat_template = saved.get("chat_template") or processor.tokenizer.chat_template
    return processor
