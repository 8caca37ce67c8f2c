"""A random language model that the tests of backends share."""

import pytest

from azeros.params import Pretrained
from azeros.sift.local import LocalLLM
from azeros.sift.profile import LLMProfile, read_profile
from tests.sift.random_llm import save_random_llm


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> LLMProfile:
    path = tmp_path_factory.mktemp("llm")
    save_random_llm(path, repetition_penalty=1.2)
    return read_profile(Pretrained(path=str(path), revision=None))


@pytest.fixture(scope="session")
def llm(profile: LLMProfile) -> LocalLLM:
    return LocalLLM(profile, max_new_tokens=12, batch_size=4)
