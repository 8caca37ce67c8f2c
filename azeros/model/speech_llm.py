"""The AZeroS speech LLM: frozen encoders, trained projectors, a frozen language model (spec/AZEROS.md).

Letters: B batch, N samples, T feature frames (100 Hz), F mel bins, L tokens of a row, V vocabulary,
d width of the language model.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoModelForMultimodalLM, GenerationMixin, PreTrainedModel

from azeros.errors import AudioError, ModelError
from azeros.model.checkpoint import match_keys, save_projectors, save_whole, take_prefix
from azeros.model.config import AzerosConfig
from azeros.model.embedding import AudioFrames, check_slots, embed_rows
from azeros.model.encoding import FRAMES_PER_S, features_for, load_wave, project_frames, run_encoder
from azeros.model.encoding import EncoderOutputs as EncoderOutputs
from azeros.model.foundation import LLMOptions, Parts, Source, fetch, load_foundation, load_parts
from azeros.model.generation import generate_ids
from azeros.model.processing import IGNORED, AzerosProcessor, Message, audios_of
from azeros.model.projector import Projector

if TYPE_CHECKING:
    from transformers import StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer

    from azeros.model.encoding import Audio

    Audios: TypeAlias = Sequence[Audio] | tuple[Tensor, Tensor] | EncoderOutputs

# What transformers' Auto classes add to the options of whoever calls them.
_OF_AUTO_CLASSES = ("trust_remote_code", "adapter_kwargs")


@dataclass
class SpeechLLMOutput:
    """What a training step looks at."""

    loss: Tensor
    """() float32, mean cross entropy over the supervised tokens."""
    accuracy: Tensor
    """() float32, share of the supervised tokens that are the likeliest."""
    logits: Tensor | None
    """(B, L, V) float, if asked for."""


class TrainingInputs(TypedDict):
    """What `AZerosModel.forward` takes."""

    inputs_embeds: Tensor
    attention_mask: Tensor
    labels: Tensor


class AZerosModel(PreTrainedModel, GenerationMixin):
    """Speech in, text out. Only the projectors learn; everything else is frozen and always in eval mode."""

    config: AzerosConfig
    config_class = AzerosConfig
    main_input_name = "inputs_embeds"

    def __init__(self, parts: Parts) -> None:
        """Join parts with fresh projectors; `from_pretrained` and `from_foundation` are what to call."""
        super().__init__(parts.config)
        self.processor = AzerosProcessor(parts.tokenizer)
        self.llm = parts.llm
        self.speech_encoder = parts.speech_encoder
        self.paraling_encoder = parts.paraling_encoder
        self.speech_encoder_projector = self._fresh_projector("speech_encoder")
        self.paraling_encoder_projector = (
            self._fresh_projector("paraling_encoder") if parts.paraling_encoder else None
        )
        self.requires_grad_(False)
        for name, projector in self._branches():
            projector.requires_grad_(True)
            for part in (projector, getattr(self, f"{name}_encoder")):
                part.to(self.llm.device)
        self.train(False)

    def _fresh_projector(self, encoder: str) -> Projector:
        rate = getattr(self.config, f"{encoder}_projector_ds_rate")
        width = self.llm.config.get_text_config().hidden_size
        return Projector(getattr(self, encoder).output_dim, width, rate)

    @classmethod
    def from_foundation(
        cls,
        llm: Source,
        speech_encoder: Source,
        paraling_encoder: Source | None = None,
        *,
        seed: int,
        dtype: torch.dtype | str = torch.float32,
        device_map: Any = None,
        attn_implementation: str | None = None,
        quantization_config: Any = None,
    ) -> AZerosModel:
        """Frozen models with fresh projectors.

        Args:
            llm: language model with its tokenizer, to which `<|AUDIO|>` is added.
            speech_encoder: semantic encoder, a Zipformer or a Whisper.
            paraling_encoder: paralinguistic encoder; None makes a model of stage 1.
            seed: draws the projectors' values.
            dtype: of the language model's weights; encoders and projectors are float32.
            device_map: where transformers puts the language model; encoders and projectors go where it begins.
            attn_implementation: of the language model, as transformers names them.
            quantization_config: of the language model, as transformers takes it.

        Raises:
            ModelError: a model is missing, damaged or of an unknown type.
        """
        options = LLMOptions(dtype, device_map, attn_implementation, quantization_config)
        with torch.random.fork_rng(devices=[]):
            parts = load_foundation(llm, speech_encoder, paraling_encoder, options)
            torch.manual_seed(seed)
            return cls(parts)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: Source,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        *,
        device_map: Any = None,
        attn_implementation: str | None = None,
        quantization_config: Any = None,
        config: AzerosConfig | None = None,
        **hub: Any,
    ) -> AZerosModel:
        """Load a saved model: all weights in one file, or projectors beside the frozen models.

        Args:
            source: its folder, a weight file in its folder, or a hub id.
            revision: of a hub id.
            dtype: of the language model's weights; encoders and projectors are float32.
            device_map: where transformers puts the language model; encoders and projectors go where it begins.
            attn_implementation: of the language model, as transformers names them.
            quantization_config: of the language model, as transformers takes it.
            config: what the Auto classes read from `source`; it holds the `attn_implementation` that they were given.
            hub: options of huggingface_hub's snapshot_download (token, cache_dir, local_files_only).

        Raises:
            ModelError: something is missing, damaged or does not fit; files and tensors are named.
        """
        hub = {name: value for name, value in hub.items() if name not in _OF_AUTO_CLASSES}
        path = fetch(source, revision, **hub)
        attn_implementation = attn_implementation or (config._attn_implementation if config else None)
        options = LLMOptions(dtype, device_map, attn_implementation, quantization_config)
        with torch.random.fork_rng(devices=[]):
            parts = load_parts(path, options)
            model = cls(parts)
        for branch, projector in model._branches():
            name = f"{branch}_encoder_projector"
            state = take_prefix(parts.projectors, name)
            match_keys(projector, state, f"{path}: {name}")
            projector.load_state_dict(state)
        return model

    def save_pretrained(  # type: ignore[override]
        self, folder: str | Path, trainable_only: bool = False
    ) -> None:
        """Write what loading needs: config, one model.safetensors, tokenizer, generation settings.

        Args:
            folder: made if it is not there.
            trainable_only: write the projectors alone; loading then takes the frozen models from where this one had
                them, which should be hub ids for the folder to be of use elsewhere.

        Raises:
            ModelError: `trainable_only` of a model that did not come from frozen models of their own.
        """
        folder = Path(folder)
        config = copy.deepcopy(self.config)
        if trainable_only and not config.foundation:
            raise ModelError("it is not known where the frozen models are: save without trainable_only")
        config.exclude_from_checkpoint = list(config.foundation or ()) if trainable_only else []
        config.foundation = config.foundation if trainable_only else None
        assert config.llm_config is not None
        config.llm_config.name_or_path = ""  # where it was loaded from means nothing elsewhere
        folder.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.llm.generation_config.save_pretrained(folder)
        (save_projectors if trainable_only else save_whole)(self, folder / "model.safetensors")

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        trainable_only: bool = False,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload AZerosModel",
    ) -> str:
        """Save into a repository of the hub, made if it is not there; the commit's address.

        Args:
            repo_id: user or organisation, slash, name.
            trainable_only: as for `save_pretrained`.
            private: of a new repository; None leaves it to the organisation.
            token: of the hub; None takes the one of `hf auth login`.
            revision: branch to commit to.
            commit_message: its first line.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, trainable_only)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
            )
        return str(commit.commit_url)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, which holds `<|AUDIO|>`."""
        return self.processor.tokenizer

    @property
    def audio_token_wrapped(self) -> str:
        """How an audio stands in a message."""
        return self.config.audio_token_wrapped

    def train(self, mode: bool = True) -> AZerosModel:
        """Stay in eval, whatever `mode`: the frozen parts must, and projectors know no difference."""
        super().train(False)
        return self

    def _branches(self) -> list[tuple[str, nn.Module]]:
        """Names and projectors of the branches in the order of their slots."""
        if self.paraling_encoder_projector is None:
            return [("speech", self.speech_encoder_projector)]
        return [("paraling", self.paraling_encoder_projector), ("speech", self.speech_encoder_projector)]

    def encoders(self) -> dict[str, Any]:
        """Branch (paraling, speech) -> its frozen encoder, in the order of the slots."""
        return {name: getattr(self, f"{name}_encoder") for name, _ in self._branches()}

    def encode(self, features: Tensor, lengths: Tensor, by_length: bool = False) -> EncoderOutputs:
        """Run the frozen encoders on features.

        Nothing masks padding in an encoder's first layers, so an item's last frames depend a little on what
        it is batched with. With `by_length`, items of like length share a batch, and each is as if alone.

        Args:
            features: (B, T, F) float, frames at 100 Hz padded with log(1e-10).
            lengths: (B,) int64, frames of each item.
            by_length: encode each item as if it were alone.

        Raises:
            AudioError: an item is too short to give a token, or longer than the config's max_audio_s.
        """
        return self.encode_features(dict.fromkeys(self.encoders(), (features, lengths)), by_length)

    def encode_audios(self, audios: Sequence[Audio], by_length: bool = False) -> EncoderOutputs:
        """Run the frozen encoders on recordings, each encoder on its own kind of features; else as `encode`.

        Args:
            audios: paths, lhotse cuts, samples (N,) float at 16 kHz, or pairs of samples and their rate in Hz.
            by_length: encode each item as if it were alone.

        Raises:
            AudioError: a recording is missing, unreadable, empty, not finite, too short or too long.
        """
        waves = [load_wave(audio) for audio in audios]
        features = {name: features_for(encoder, waves) for name, encoder in self.encoders().items()}
        return self.encode_features(features, by_length)

    def encode_features(
        self, inputs: Mapping[str, tuple[Tensor, Tensor]], by_length: bool = False
    ) -> EncoderOutputs:
        """Run the frozen encoders, each on features and lengths of its own; else as `encode`.

        Args:
            inputs: branch (speech, paraling) -> features (B, T, F) and lengths (B,).
            by_length: encode each item as if it were alone.
        """
        outputs: dict[str, Tensor] = {}
        for branch, encoder in self.encoders().items():
            features, lengths = inputs[branch]
            self._check_lengths(lengths)
            frames, lens = run_encoder(encoder, features.to(self.device), lengths.to(self.device), by_length)
            outputs |= {branch: frames, f"{branch}_lens": lens}
        return EncoderOutputs(**outputs)

    def _check_lengths(self, lengths: Tensor) -> None:
        limit_s = self.config.max_audio_s
        for index, num in enumerate(lengths.tolist()):
            if num > limit_s * FRAMES_PER_S:
                raise AudioError(
                    f"audio {index} is {num / FRAMES_PER_S:.1f} s long: cut it into pieces of at most {limit_s:g} s "
                    "(max_audio_s in the model's config)"
                )

    def project(self, encoded: EncoderOutputs) -> AudioFrames:
        """Frames of each audio slot, in slot order; differentiable in the projectors.

        Raises:
            AudioError: an item gives no frame.
            ModelError: the outputs come from a model with other branches.
        """
        if (encoded.paraling is None) != (self.paraling_encoder is None):
            raise ModelError(
                "the encoder outputs are of another kind of model: encode the audio with this one"
            )
        branches = [
            project_frames(projector, getattr(encoded, name), getattr(encoded, f"{name}_lens"))
            for name, projector in self._branches()
        ]
        return [frames for item in zip(*branches, strict=True) for frames in item]

    def prepare_training(self, messages: Sequence[Sequence[Message]], frames: AudioFrames) -> TrainingInputs:
        """Inputs of `forward` for conversations that end with the answer to learn, padded on the right.

        Raises:
            RowTooLong: a row's audio leaves no room for its answer.
            ModelError: no rows, a malformed message, or another number of slots than of `frames`.
        """
        rows = [self.processor.encode_training(row, self.audio_token_wrapped) for row in messages]
        ids = [row.ids for row in rows]
        slots = check_slots(ids, frames, self.processor, self.audio_token_wrapped)
        learned = [self.processor.training_row(row, sizes) for row, sizes in zip(rows, slots, strict=True)]
        embeds, mask = embed_rows(self.llm, [row.ids for row in learned], frames, self.processor, "right")
        labels = [torch.tensor(row.labels) for row in learned]
        padded = pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        return {"inputs_embeds": embeds, "attention_mask": mask, "labels": padded.to(self.device)}

    def forward(
        self, inputs_embeds: Tensor, attention_mask: Tensor, labels: Tensor, return_logits: bool = False
    ) -> SpeechLLMOutput:
        """Loss and accuracy; logits are computed only where some row is supervised, unless all are asked for.

        Args:
            inputs_embeds: (B, L, d) float.
            attention_mask: (B, L) int64, 1 where there is a token.
            labels: (B, L) int64, the ids to learn, elsewhere -100.
            return_logits: give the logits of every position back.
        """
        targets = labels[:, 1:]
        columns = (targets != IGNORED).any(dim=0).nonzero()[:, 0]
        kept = torch.arange(labels.shape[1], device=labels.device) if return_logits else columns
        logits: Tensor = self.llm(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, use_cache=False, logits_to_keep=kept
        ).logits
        targets = targets[:, columns]
        supervised = targets != IGNORED
        scores = (logits[:, columns] if return_logits else logits)[supervised].float()
        loss = functional.cross_entropy(scores, targets[supervised])
        accuracy = (scores.argmax(dim=-1) == targets[supervised]).float().mean()
        return SpeechLLMOutput(loss, accuracy, logits if return_logits else None)

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        audios: Audios,
        messages: Sequence[Sequence[Message]],
        return_ids: bool = False,
        by_length: bool = False,
        streamer: BaseStreamer | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        **generate_config: Any,
    ) -> list[Any]:
        """Answer conversations, greedily unless told otherwise.

        Args:
            audios: one list over all conversations in the order of their slots: paths, lhotse cuts, samples (N,) at
                16 kHz, or pairs of samples and their rate in Hz; or a pair of features (B, T, F) and lengths (B,); or
                encoder outputs. Empty where the messages bring their audios as content parts.
            messages: for each conversation its messages, an audio standing in them as `audio_token_wrapped` or
                as a content part (see `azeros.model.processing.Message`).
            return_ids: give token ids, with the end token, in place of text.
            by_length: encode each audio as if it were alone, so that none depends on the others.
            streamer: is handed each new token, as transformers' TextIteratorStreamer; for one conversation.
            stopping_criteria: ends answers early, as transformers takes it.
            generate_config: settings of transformers' GenerationConfig (max_new_tokens, do_sample, ...).

        Returns:
            For each conversation the answer (str), or its token ids (list[int]).

        Raises:
            AudioError: an audio is missing, unreadable, too short or too long.
            ModelError: no conversation, a malformed message, not one slot for an audio, an unknown setting.
        """
        processor = self.processor
        rows = [processor.encode_inference(row, self.audio_token_wrapped) for row in messages]
        brought = audios_of(messages)
        if brought and not (isinstance(audios, Sequence) and not len(audios)):
            raise ModelError("messages bring audios as parts, and audios are given too: give them in one way")
        frames = self._audio_frames(brought or audios, by_length)
        slots = check_slots(rows, frames, processor, self.audio_token_wrapped)
        ids = [processor.expand(row, sizes) for row, sizes in zip(rows, slots, strict=True)]
        embeds, mask = embed_rows(self.llm, ids, frames, processor, "left")
        inputs: dict[str, Any] = {"inputs_embeds": embeds, "attention_mask": mask}
        hooks = {"streamer": streamer, "stopping_criteria": stopping_criteria}
        new = generate_ids(
            self.llm, inputs | hooks, processor.end_token_id, processor.pad_token_id, generate_config
        )
        return new if return_ids else [processor.decode_answer(row) for row in new]

    def _audio_frames(self, audios: Audios, by_length: bool) -> AudioFrames:
        if isinstance(audios, EncoderOutputs):
            return self.project(audios)
        if isinstance(audios, tuple) and isinstance(audios[0], Tensor) and audios[0].dim() == 3:
            features, lengths = cast("tuple[Tensor, Tensor]", audios)
            return self.project(self.encode(features, lengths, by_length))
        return self.project(self.encode_audios(audios, by_length)) if len(audios) else []


AutoModel.register(AzerosConfig, AZerosModel)
AutoModelForMultimodalLM.register(AzerosConfig, AZerosModel)
