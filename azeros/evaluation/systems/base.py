"""What a system under test is asked, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from azeros.errors import AudioError, AzerosError, EndpointError, one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Modality = Literal["audio", "text"]


@dataclass(frozen=True)
class Recording:
    """A recording as the data set holds it, read when it is wanted."""

    name: str
    num_bytes: int
    read: Callable[[], bytes]

    def load(self) -> NDArray[np.float32]:
        """Samples (N,) float32 at 16 kHz.

        Raises:
            AudioError: it cannot be read, or is empty, too short or not finite.
        """
        from pyarrow import ArrowException

        from azeros.data.audio import load_audio

        try:
            return load_audio(self.read())
        except AzerosError as error:
            error.args = (f"{self.name}: {error}",)
            raise
        except (OSError, ArrowException) as error:
            raise AudioError(f"{self.name}: cannot be read ({one_line(error)}); fetch it again") from error


@dataclass(frozen=True)
class Request:
    """One question to a system.

    Attributes:
        recording: what it hears.
        instruction: the text that follows the recording; VoiceBench has none.
        transcript: what is said, for a system that reads; None where the data set does not tell.
        has_choices: the instruction ends in choices of AIR-Bench Foundation.
    """

    recording: Recording
    instruction: str
    transcript: str | None
    has_choices: bool = False


@dataclass(frozen=True)
class Reply:
    """A response, or None and why there is none.

    Attributes:
        response: what the system answered.
        error: why it did not.
        failure: why it can answer nothing more; the run ends with it once the other replies are kept.
    """

    response: str | None
    error: str | None = None
    failure: EndpointError | None = None


class System(Protocol):
    """A system under test."""

    modality: Modality
    takes_instructions: bool
    """Whether it reads text that follows a recording."""
    batch_size: int
    """How many requests it takes at once."""
    choice_suffix: str | None
    """A line that it wants after choices."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its responses depend on: those of two identities never share a file. Has decoding, max_new_tokens."""

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        """A reply to each request. What only some of them suffer is said in their replies.

        Raises:
            AzerosError: the system cannot answer at all.
        """


def answer_apart(
    requests: Sequence[Request], answer: Callable[[Sequence[Request]], list[str]]
) -> list[Reply]:
    """Replies by `answer`, which fails for a whole batch: the requests of a batch that fails are put one by one."""
    try:
        return [Reply(text) for text in answer(requests)]
    # torch raises RuntimeError when memory runs out; transformers the others for an item that it cannot take.
    except (AzerosError, RuntimeError, ValueError, IndexError) as error:
        if len(requests) == 1:
            return [Reply(None, " ".join(f"{type(error).__name__}: {error}".split()))]
    return [reply for request in requests for reply in answer_apart([request], answer)]
