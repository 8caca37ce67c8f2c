"""POST /generate of BentoML's own application, in this process."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from azeros.model.speech_llm import AZerosModel
from tests.serving.sound import encoded, noise

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CLIP = encoded(noise(1.0))
FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def client(tiny_model: AZerosModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model.save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZEROS_MODEL", str(folder))
        from bento.service import Azeros

        service: Any = Azeros
        with TestClient(service.to_asgi()) as client:
            yield client


def part(head: str, content: bytes) -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"


@pytest.mark.parametrize("prompt", ["hello", "123", "true", '"hello"', "null", ""])
def test_a_prompt_is_text_whatever_it_looks_like(client: TestClient, prompt: str) -> None:
    found = client.post("/generate", files={"audio": CLIP}, data={"prompt": prompt, "max_new_tokens": "2"})
    assert found.status_code == 200
    assert found.headers["content-type"].startswith("text/plain")


def test_the_name_of_a_file_does_not_matter(client: TestClient) -> None:
    found = client.post("/generate", files={"audio": ("a" * 1000, CLIP)}, data={"max_new_tokens": "2"})
    assert found.status_code == 200


BAD: dict[str, dict[str, Any]] = {
    "an address": {"files": {"prompt": (None, "a")}, "data": {"audio": "http://localhost:1/a.wav"}},
    "no file": {"data": {"prompt": "a"}},
    "json": {"json": {"audio": "http://localhost:1/a.wav"}},
    "two files": {"files": {"audio": CLIP, "prompt": CLIP}},
    "no audio": {"files": {"audio": b"not audio"}},
    "no tokens": {"files": {"audio": CLIP}, "data": {"max_new_tokens": "0"}},
    "no number": {"files": {"audio": CLIP}, "data": {"max_new_tokens": "x"}},
    "no boundary": {"content": b"", "headers": {"content-type": "multipart/form-data"}},
    "no part": {"content": b"--b\r\n[", "headers": FORM},
    "no unicode": {
        "content": part('name="audio"; filename="a"', CLIP)
        + part('name="prompt"', rb"\ud800")
        + b"--b--\r\n",
        "headers": {"content-type": f"{FORM['content-type']}; charset=unicode_escape"},
    },
    "no unicode in json": {"files": {"audio": CLIP}, "data": {"prompt": r'"\ud800"'}},
    "nesting": {"files": {"audio": CLIP}, "data": {"prompt": "[" * 100_000}},
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_form_is_refused(client: TestClient, fault: str) -> None:
    found = client.post("/generate", **BAD[fault])
    assert found.status_code == 400
    assert found.json()["error"]["type"] == "invalid_request_error"


def test_no_form_is_a_fault_of_the_service(client: TestClient) -> None:
    document = client.get("/docs.json").json()
    paths = {path: own for path, own in document["paths"].items() if path == "/generate"}
    openapi = schemathesis.openapi.from_dict(document | {"paths": paths})
    # A mount does not start the application again for each request.
    running = Starlette(routes=[Mount("/", client.app)])

    @settings(max_examples=50)
    @given(st.one_of(*(openapi.as_strategy(generation_mode=mode) for mode in GenerationMode)))
    def holds(case: Any) -> None:
        case.call_and_validate(app=running, checks=[schemathesis.checks.not_a_server_error])

    holds()
