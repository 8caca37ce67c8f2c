"""What the language model is shown: transcript, speaker attributes and instruction, in the five modes of the method and two of its ablations.

mode      transcript  attributes  instruction  system message
sift_s        x
sift_sp       x           x
sit_sp        x           x            x
sift_ssp      x           x                          x
sit_ssp       x           x            x             x
sit_s         x                        x
tsit_s        x                        x             (the target is the transcript, no model is asked)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.data.labels import age_group_of
from azeros.data.manifests import read_cuts, supervision_of
from azeros.errors import ManifestError, ModelError, ParamsError
from azeros.model.chat import GENERATION_PROMPT, render_chat
from azeros.sift.text import normalize

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

    from azeros.params import Mode, Sift, TranscriptMode

Write = Callable[[Sequence[Mapping[str, str]]], str]
"""How turns are written, up to where the answer begins: `ChatTemplate.prompt` of a language model."""

UNKNOWN = "?"
ATTRIBUTES = ("age", "gender", "emotion")
_UNKNOWN_WORDS = {"", "?", "na", "null", "unk", "unknown"}


@dataclass(frozen=True)
class Prompt:
    """One row as it is put to the language model."""

    id: str
    metadata: dict[str, str]
    """age, gender, emotion and text, `?` where unknown, and language where the row has one."""
    input_text: str
    """The transcript, with its attributes in the modes that show them."""
    instruction: str
    """Empty in the sift_* modes."""
    system_message: str
    """Empty outside the `_ssp` modes."""
    prompt: str
    """All of it, rendered up to where the answer begins."""

    @property
    def user_text(self) -> str:
        """What stands in the user's turn: `input_text` of the finished row."""
        return f"{self.input_text} {self.instruction}" if self.instruction else self.input_text


def write_qwen(turns: Sequence[Mapping[str, str]]) -> str:
    """In the turns of Qwen, as the original does."""
    return render_chat(turns) + GENERATION_PROMPT


def render(
    mode: Mode | TranscriptMode, supervision: SupervisionSegment, settings: Sift, write: Write = write_qwen
) -> Prompt:
    """The prompt for one utterance.

    Raises:
        ManifestError: the transcript is no text.
        ParamsError: the mode wants an instruction and there is none in the utterance's language.
        ModelError: `write` refuses the conversation, as one with a system turn.
    """
    if not isinstance(supervision.text, str | None):
        raise ManifestError(f"cut {supervision.id}: its text is {supervision.text!r}; write it as a string")
    metadata = read_metadata(supervision)
    system_message = settings.system_message if mode.endswith("_ssp") else ""
    prompt = Prompt(
        id=supervision.id,
        metadata=metadata,
        input_text=metadata["text"] if mode.endswith("_s") else wrap_metadata(metadata["text"], metadata),
        instruction=_instruction(mode, supervision, settings),
        system_message=system_message,
        prompt="",
    )
    messages = [{"role": "system", "content": system_message}] if system_message else []
    messages.append({"role": "user", "content": prompt.user_text})
    return replace(prompt, prompt=write(messages))


def render_manifest(manifest: Path, mode: Mode, language: str | None, settings: Sift) -> Iterator[Prompt]:
    """The prompt of every cut in `manifest`, under the cut's id; `language` replaces what the manifest says.

    Raises:
        ManifestError: there is no such manifest, a line is not a cut, a cut not one utterance, or a transcript no text.
        ParamsError: as `render`.
    """
    from lhotse.utils import fastcopy

    for cut in read_cuts(manifest):
        supervision = supervision_of(cut)
        if language is not None:
            supervision = fastcopy(supervision, language=language)
        yield replace(render(mode, supervision, settings), id=cut.id)


def read_metadata(supervision: SupervisionSegment) -> dict[str, str]:
    """What is known of an utterance in lower case, `?` for the rest: also for a transcript "unknown"."""
    custom = supervision.custom or {}
    age = custom.get("age_group") or age_group_of(custom.get("age"))
    metadata = {
        "age": _known(age),
        "gender": _known(supervision.gender),
        "emotion": _known(custom.get("emotion")),
        "text": _known(normalize(supervision.text or "")),
    }
    return metadata | ({"language": supervision.language} if supervision.language else {})


def has_unreadable_age(supervision: SupervisionSegment) -> bool:
    """Whether an age is given that is no number, by which it counts as unknown."""
    custom = supervision.custom or {}
    age = custom.get("age")
    return not custom.get("age_group") and _known(age) != UNKNOWN and not _is_number(age)


def _is_number(value: object) -> bool:
    try:
        int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def hash_template(settings: Sift, write: Write = write_qwen) -> str:
    """SHA-256 of all that stands around transcripts and attributes in prompts."""
    system, *others = ({"role": role, "content": role} for role in ("system", "user", "assistant"))
    try:
        around = write([system, *others])
    except ModelError:  # as Gemma's does
        around = write(others)
    parts = [
        around,
        wrap_metadata("text", {key: key for key in ATTRIBUTES}),
        settings.system_message,
        *(f"{language} {instruction}" for language, instruction in sorted(settings.instructions.items())),
        *(f"{language} {instruction}" for language, instruction in sorted(settings.transcription.items())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def wrap_metadata(text: str, metadata: Mapping[str, str]) -> str:
    """`text` in audio tags with the attributes that are known, always in the same order."""
    shown = (f"{key}: {metadata[key]}" for key in ATTRIBUTES if metadata.get(key, UNKNOWN) != UNKNOWN)
    return f"<audio><meta>{', '.join(shown)}</meta><text>{text}</text></audio>"


def _known(value: object) -> str:
    word = str("" if value is None else value).lower()
    return UNKNOWN if word in _UNKNOWN_WORDS else word


def _instruction(mode: Mode | TranscriptMode, supervision: SupervisionSegment, settings: Sift) -> str:
    if mode.startswith("sift_"):
        return ""
    key = "transcription" if mode == "tsit_s" else "instructions"
    instructions: dict[str, str] = getattr(settings, key)
    try:
        return instructions[supervision.language or ""]
    except KeyError:
        language = f"language '{supervision.language}'" if supervision.language else "no language"
        raise ParamsError(
            f"sift.{key}: cut {supervision.id} has {language}, there are instructions in "
            f"{', '.join(instructions)}; add one"
        ) from None
