"""Settings come from the environment."""

import pytest

from azeros.errors import ParamsError
from azeros.serving.settings import ServingSettings


def test_variables_become_settings() -> None:
    environment = {
        "AZEROS_MAX_BATCH_SIZE": "4",
        "AZEROS_MODEL": "org/name",
        "AZEROS_PARENT_RUN": "x",
        "HOME": "/",
    }
    settings = ServingSettings.from_environment(environment)
    assert settings == ServingSettings(max_batch_size=4, model="org/name")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_BATCH_SIZE", "0"),
        ("DTYPE", "int8"),
        ("API_KEY", ""),
        ("AUDIO_URLS", "https://a/,b/"),
        ("AUDIO_URLS", ""),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ParamsError, match=f"AZEROS_{name}"):
        ServingSettings.from_environment({f"AZEROS_{name}": value})
