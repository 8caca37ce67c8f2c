"""Every system of the published tables can be asked by its name."""

from pathlib import Path

import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.published import load_published
from azeros.evaluation.systems.endpoint import ServedModel
from azeros.evaluation.systems.registry import make_system, settings_of
from azeros.params import CascadeSystem, EndpointSystem, Params, listed_systems, load_params, read_yaml
from tests.conftest import ROOT
from tests.evaluation.official import write_voicebench
from tests.openai_server import KEY, Reply, completion, serve
from tests.small import complaint, run, write_params

# The paper's ablations are trained, not asked by name: python -m flows.ablation.
SOURCES = ("azeros", "leaderboard")


@pytest.fixture(scope="module")
def shipped() -> Params:
    return load_params(ROOT / "params.yaml")


def test_every_published_row_has_one_system() -> None:
    published = {row.system for row in load_published() if row.source in SOURCES}
    listed = [row for system in listed_systems().values() for row in system.rows]
    assert len(published) >= 43
    assert sorted(listed) == sorted(published)


def test_the_systems_of_the_paper_are_of_the_kinds_that_run_them(shipped: Params) -> None:
    kinds = {row: system.settings.kind for system in listed_systems().values() for row in system.rows}
    served = {row for row, kind in kinds.items() if kind == "endpoint"}
    paper = {row.system for row in load_published() if row.source == "azeros"}
    assert served & paper == {"GPT-4o", "Gemini2.5-pro", "GLM-4-Voice", "DeSTA2.5", "SALMONN"}
    for system in shipped.benchmark.known_systems.values():
        if isinstance(system, CascadeSystem):
            reader = settings_of(system.reader, shipped.benchmark.known_systems)
            assert reader.kind == "text" or (isinstance(reader, EndpointSystem) and reader.modality == "text")


def test_an_entry_of_params_takes_the_place_of_the_listed_one(shipped: Params) -> None:
    assert shipped.benchmark.known_systems["azeros"] == shipped.benchmark.systems["azeros"]
    assert shipped.benchmark.known_systems["gemini"] == listed_systems()["gemini"].settings


def test_a_listed_system_makes_a_request_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped: Params
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    gemini = shipped.benchmark.known_systems["gemini"]
    assert isinstance(gemini, EndpointSystem)
    assert isinstance(make_system("gemini", {"gemini": gemini}), ServedModel)
    printed = run("benchmark", "systems", "gemini", "--params", str(ROOT / "params.yaml")).stdout
    entry = tmp_path / "entry.yaml"
    entry.write_text(printed, encoding="utf-8")
    (written,) = read_yaml(entry).values()
    write_voicebench(tmp_path / "data", "commoneval", "test", [{"prompt": "hello?"}])

    def reply(_: int, body: dict[str, object]) -> Reply:
        return completion(f"{body['model']}, {body['max_tokens']}")

    with serve(reply) as server:
        systems = {"benchmark.systems": {"gemini": written | {"base_url": server.base_url}}}
        params = write_params(tmp_path / "params.yaml", systems | {"benchmark.asked": ["gemini"]})
        paths = [str(tmp_path / "data"), str(tmp_path / "out"), "--partial", "--params", str(params)]
        result = run("benchmark", "run", "gemini", "voicebench", "commoneval", *paths)
    assert result.exit_code == 0, result.stderr
    assert "gemini-2.5-pro, 16384" in (tmp_path / "out/gemini-commoneval-test-audio.jsonl").read_text()


def test_names_are_listed_and_a_mistyped_one_is_guessed(shipped: Params) -> None:
    shown = run("benchmark", "systems", "--params", str(ROOT / "params.yaml")).stdout.splitlines()
    assert len(shown) == len(shipped.benchmark.known_systems)
    assert "qwen25-omni             hearing   Qwen2.5-Omni" in shown
    with pytest.raises(BenchmarkError, match="no system 'gemimi'; did you mean 'gemini'"):
        settings_of("gemimi", shipped.benchmark.known_systems)


def test_the_stage_asks_listed_systems_and_names_what_is_not_one(tmp_path: Path) -> None:
    assert load_params(write_params(tmp_path / "a", {"benchmark.asked": ["moshi", "whisper-qwen25"]}))
    wrong = write_params(tmp_path / "b", {"benchmark.asked": ["moschi"]})
    result = run("benchmark", "systems", "--params", str(wrong))
    assert "no 'moschi' in benchmark.systems; did you mean 'moshi'" in complaint(result.stderr)
