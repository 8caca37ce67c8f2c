"""The errors a user can meet. Each message is one line: what, where (file, row, field), what to do.

AzerosError
├── ParamsError      params.yaml cannot be read, or a value in it is wrong
├── CorpusError      a corpus's source is missing or is not what its recipe expects
├── AudioError       a recording is missing, unreadable, empty, too short, too long or not finite
├── ManifestError    a manifest is missing or malformed, or names what is gone
├── ModelError       a model folder is missing, incomplete or does not fit
├── BenchmarkError   data, responses, judgements or scoring weights are missing or malformed
├── EndpointError    a server that is asked (language model, judge, system) refuses, fails or costs more than allowed
├── RequestError     a service is asked for what it does not do
├── OverloadError    a service has no room for another request
└── StageError       a stage cannot start or go on for another reason
"""


class AzerosError(Exception):
    """Root of every error that a user can mend; the CLI prints the message and exits with 1."""


class ParamsError(AzerosError):
    """params.yaml cannot be read, or a value in it is wrong."""


class CorpusError(AzerosError):
    """A corpus's source is missing or is not what its recipe expects."""


class AudioError(AzerosError, ValueError):
    """A recording is missing, unreadable, empty, too short, too long or not finite."""


class ManifestError(AzerosError):
    """A manifest is missing or malformed, or names what is gone."""


class ModelError(AzerosError):
    """A model folder is missing, incomplete or does not fit."""


class BenchmarkError(AzerosError):
    """Data, responses, judgements or scoring weights are missing or malformed."""


class EndpointError(AzerosError):
    """A server that is asked (language model, judge, system) refuses, fails or costs more than allowed."""


class RequestError(AzerosError):
    """A service is asked for what it does not do.

    Attributes:
        code: what is wrong, in OpenAI's word for it where there is one.
        param: which part of the request, with dots.
    """

    def __init__(self, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class OverloadError(AzerosError):
    """A service has no room for another request; the same request may be taken a little later."""


class StageError(AzerosError):
    """A stage cannot start or go on: wrong argument, full disk, missing optional package."""


def one_line(error: Exception) -> str:
    """The start of another library's message, for the line of ours."""
    return " ".join(str(error).split())[:200]
