"""azeros: a speech LLM from audio to a packaged model, and the pipeline that makes it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azeros.model.config import AzerosConfig as AzerosConfig
    from azeros.model.processing import AzerosProcessor as AzerosProcessor
    from azeros.model.speech_llm import AZerosModel as AZerosModel

# Torch and transformers are heavy: they load when a name is first asked for. This module has all of the names, and
# makes them known to transformers' Auto classes.
_HOME = "azeros.model.speech_llm"
__all__ = ["AZerosModel", "AzerosConfig", "AzerosProcessor"]


def __getattr__(name: str) -> Any:
    """The public classes, loaded on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'azeros' has no attribute '{name}'")
    return getattr(import_module(_HOME), name)
