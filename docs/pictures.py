"""Takes the pictures of the documentation with headless Chromium, from what `dvc repro` has left: python docs/pictures.py [page ...]"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import soundfile
from lhotse import CutSet
from playwright.sync_api import expect, sync_playwright

from azeros.tracking import EXPERIMENT, connect, store_uri

PICTURES = Path(__file__).with_name("pictures")
CUTS = Path("data/manifests/tiny/cuts_test.jsonl.gz")
PATIENCE_S = 120
SETTLE_S = 30
QUESTIONS = ("repeat what was said.", "how does the speaker feel?")


@contextmanager
def server(ready: str, *command: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A server that stops with the block."""
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "BENTOML_DO_NOT_TRACK": "true"}
    with subprocess.Popen(
        [sys.executable, "-m", *command], env=os.environ | quiet | dict(environment or {}),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"it did not start: python -m {' '.join(command)}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Whether something is there."""
    try:
        urlopen(url, timeout=5).close()
    except (URLError, OSError):
        return False
    return True


def take(page: Any, name: str, width: int | None = None) -> None:
    """A picture of what the page shows, or of its left part."""
    PICTURES.mkdir(exist_ok=True)
    size = page.viewport_size
    clip = {"x": 0, "y": 0, "width": width or size["width"], "height": size["height"]}
    page.screenshot(path=PICTURES / f"{name}.png", clip=clip)
    print(PICTURES / f"{name}.png")


def take_page(page: Any) -> None:
    """A short conversation about a recording of the test split."""
    cut = next(cut for cut in CutSet.from_file(CUTS) if "wants" in cut.supervisions[0].text)
    with (
        server("http://127.0.0.1:3941/readyz", "bentoml", "serve", "--port", "3941"),
        tempfile.TemporaryDirectory() as folder,
    ):
        wav = f"{folder}/speech.wav"
        soundfile.write(wav, cut.load_audio()[0], cut.sampling_rate)
        page.set_viewport_size({"width": 760, "height": 460})
        page.goto("http://127.0.0.1:3941/ui")
        page.set_input_files("#file", wav)
        expect(page.locator(".clip")).to_be_visible()
        for question in QUESTIONS:
            page.fill("#text", question)
            with page.expect_request_finished(lambda request: "completions" in request.url):
                page.click("#send")
            expect(page.locator("#send")).to_have_text("Send")
        take(page, "page")


def take_leaderboard(page: Any) -> None:
    """The head of the first table."""
    page.set_viewport_size({"width": 1600, "height": 640})
    page.goto(Path("reports/benchmark/leaderboard.html").resolve().as_uri())
    take(page, "leaderboard")


def take_mlflow(page: Any) -> None:
    """The curves of the last first stage that was trained."""
    client, experiment = tracked()
    (run, *_) = client.search_runs([experiment], "attributes.run_name = 'train@stage1'")
    with mlflow() as url:
        page.set_viewport_size({"width": 1600, "height": 700})
        page.goto(f"{url}/#/experiments/{experiment}/runs/{run.info.run_id}/model-metrics")
        page.wait_for_timeout(SETTLE_S * 1000)  # nothing on the page says that its curves are drawn
        take(page, "mlflow", width=1180)  # without the assistant beside it


def take_compare(page: Any) -> None:
    """The last three pipeline runs that were evaluated and put to the benchmarks, side by side."""
    client, experiment = tracked()
    whole = "metrics.`evaluate/stage2/plain` >= 0 and metrics.`benchmark/azeros/bbh` >= 0"
    runs = [run.info.run_id for run in client.search_runs([experiment], whole)[:3]]
    if len(runs) < 3:
        sys.exit(f"{len(runs)} pipeline runs: make three: dvc exp run -S train.stage1.num_steps=400")
    asked = urlencode({"runs": json.dumps(runs), "experiments": json.dumps([experiment])})
    with mlflow() as url:
        page.set_viewport_size({"width": 1600, "height": 1000})
        page.goto(f"{url}/#/compare-runs?{asked}")
        page.wait_for_timeout(SETTLE_S * 1000)
        for section in ("Visualizations", "Parameters"):
            page.get_by_role("button", name=section).first.click()  # which folds it
        page.wait_for_timeout(2000)
        take(page, "compare", width=1180)


def tracked() -> tuple[Any, str]:
    """A client of MLflow, and the id of the experiment that has our runs."""
    client = connect()
    (experiment,) = [one for one in client.search_experiments() if one.name == EXPERIMENT]
    return client, experiment.experiment_id


@contextmanager
def mlflow() -> Iterator[str]:
    """The address of its pages."""
    url = "http://127.0.0.1:3942"
    with server(f"{url}/health", "mlflow", "ui", "--port", "3942", "--backend-store-uri", store_uri()):
        yield url


def take_prefect(page: Any) -> None:
    """The run of a flow whose stages have nothing to do; it releases the model."""
    with tempfile.TemporaryDirectory() as home:
        api = "http://127.0.0.1:3943/api"
        environment = {"PREFECT_HOME": home, "PREFECT_API_URL": api}
        with server(f"{api}/health", "prefect", "server", "start", "--port", "3943", environment=environment):
            subprocess.run([sys.executable, "-m", "flows.pipeline"], env=os.environ | environment, check=True)
            page.set_viewport_size({"width": 1400, "height": 800})
            asked = Request(f"{api}/flow_runs/filter", b"{}", {"content-type": "application/json"})
            (run,) = json.load(urlopen(asked))
            page.goto(f"http://127.0.0.1:3943/runs/flow-run/{run['id']}")
            page.wait_for_timeout(SETTLE_S * 1000)  # the graph is drawn when it likes
            take(page, "prefect")


def main() -> None:
    """Take all of them, or those that are named."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("no chromium on PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        for picture in (take_page, take_leaderboard, take_mlflow, take_compare, take_prefect):
            if not sys.argv[1:] or picture.__name__.removeprefix("take_") in sys.argv[1:]:
                picture(page)
        browser.close()


if __name__ == "__main__":
    main()
