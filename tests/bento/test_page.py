"""The page at /ui in a real browser, whose microphone is a file."""

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from tests.bento.test_service import Server, model_folder, server  # noqa: F401 - fixtures
from tests.serving.sound import noise

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on PATH: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "speech.wav"
    soundfile.write(path, noise(1.5, 1), 16_000)
    return path


@pytest.fixture(scope="module")
def browser(recording: Path) -> Iterator[Any]:
    flags = [
        "--no-sandbox",  # the tests may run as root
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}",
    ]
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:  # noqa: F811
    """The page, with what it asked in `asked` and what it complained of in `complaints`."""
    context = browser.new_context(permissions=["microphone"])
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.complaints = []
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("console", lambda said: opened.complaints.append(said.text) if said.type == "error" else None)
    opened.goto(f"{server.url}/ui")
    sync_api.expect(opened.locator("#model")).to_have_text("azeros")
    yield opened
    context.close()


def ask(page: Any, text: str) -> tuple[dict[str, Any], str]:
    """Send what is written and attached: the body of the request, and the answer that is shown."""
    page.fill("#text", text)
    with page.expect_request("**/v1/chat/completions") as sent:
        page.click("#send")
    sync_api.expect(page.locator("#send")).to_have_text("Send")
    return sent.value.post_data_json, page.locator("#talk .assistant").last.inner_text()


def samples_of(part: dict[str, Any]) -> np.ndarray[Any, Any]:
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])))
    assert rate == 16_000
    assert samples.ndim == 1
    return np.asarray(samples)


def test_a_file_is_heard_and_a_second_turn_remembers_it(page: Any, server: Server, recording: Path) -> None:  # noqa: F811
    page.set_input_files("#file", recording)
    sync_api.expect(page.locator(".clip")).to_contain_text("1.5 s")
    body, shown = ask(page, "what is the topic?")
    audio, text = body["messages"][0]["content"]
    assert np.abs(samples_of(audio) - noise(1.5, 1)).max() < 1e-3
    assert text == {"type": "text", "text": "what is the topic?"}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"stream": False}, timeout=60).json()
    assert shown == reply["choices"][0]["message"]["content"] != ""
    more, _ = ask(page, "and who is it about?")
    assert [message["role"] for message in more["messages"]] == ["user", "assistant", "user"]
    assert more["messages"][1]["content"] == shown
    assert more["messages"][0] == body["messages"][0]
    assert page.complaints == []


def test_the_microphone_is_heard_with_the_settings(page: Any) -> None:
    page.click("#record")
    sync_api.expect(page.locator("#record")).to_have_text("Stop recording")
    page.wait_for_timeout(1_200)
    page.click("#record")
    sync_api.expect(page.locator(".clip")).to_be_visible()
    page.click("summary")
    page.fill("#system", "you are a helpful assistant.")
    page.fill("#temperature", "0.5")
    page.fill("#max_tokens", "5")
    body, _ = ask(page, "")
    system, user = body["messages"]
    assert system == {"role": "system", "content": "you are a helpful assistant."}
    assert len(samples_of(user["content"][0])) > 0.5 * 16_000
    assert np.abs(samples_of(user["content"][0])).max() > 0.01
    assert (body["temperature"], body["max_tokens"]) == (0.5, 5)
    assert page.complaints == []


def test_what_goes_wrong_is_said_and_nothing_is_lost(page: Any, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("no sound at all")
    page.set_input_files("#file", [tmp_path / "notes.wav"])
    sync_api.expect(page.locator(".error")).to_contain_text("notes.wav: ")
    page.set_input_files("#file", recording)
    sync_api.expect(page.locator(".clip")).to_be_visible()
    page.click("summary")
    page.fill("#max_tokens", "100000")
    page.fill("#text", "what was said?")
    page.click("#send")
    sync_api.expect(page.locator(".error").last).to_contain_text("max_tokens")
    sync_api.expect(page.locator(".clip")).to_be_visible()
    assert page.input_value("#text") == "what was said?"
    page.fill("#max_tokens", "5")
    body, _ = ask(page, "what was said?")
    assert len(body["messages"]) == 1
    page.click("#clear")
    assert page.locator("#talk li").count() == 0
    body, _ = ask(page, "hello")
    assert [message["role"] for message in body["messages"]] == ["user"]
