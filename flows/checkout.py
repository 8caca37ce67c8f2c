"""The checkout that a flow works in: it has it to itself, and its settings are in params.yaml until it ends."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from prefect import get_run_logger

from azeros.overrides import check_override, override, read_overrides
from azeros.work import WORK_ROOT, write_text

PARAMS = Path("params.yaml")
_LOCK = WORK_ROOT / "flow" / "lock"
_BEFORE = WORK_ROOT / "flow" / "before.yaml"  # there while params.yaml has the settings of a flow
_DURING = WORK_ROOT / "flow" / "during.yaml"


@contextmanager
def own_checkout(overrides: Sequence[str] = ()) -> Iterator[None]:
    """Wait until no other flow works here; params.yaml has the overrides until the block ends, however it ends.

    What a killed flow wrote into params.yaml, the next one puts back first.

    Raises ParamsError: an override is wrong.
    """
    logger = get_run_logger()
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.warning("another flow is at work in %s; this one waits until it has ended", Path.cwd())
        lock.acquire()
    try:
        _put_back()
        if overrides:
            _change(overrides)
            logger.info("until this run ends, params.yaml has %s", ", ".join(overrides))
        yield
    finally:
        _put_back()
        lock.release()


def _change(overrides: Sequence[str]) -> None:
    values = read_overrides(overrides)
    check_override(PARAMS, values)  # which names params.yaml, not its copy
    before = PARAMS.read_text(encoding="utf-8")
    write_text(_DURING, before)
    override(_DURING, values)
    write_text(_BEFORE, before)
    write_text(PARAMS, _DURING.read_text(encoding="utf-8"))


def _put_back() -> None:
    if not _BEFORE.exists():
        return
    before = _BEFORE.read_text(encoding="utf-8")
    now = PARAMS.read_text(encoding="utf-8")
    if now == _DURING.read_text(encoding="utf-8"):
        write_text(PARAMS, before)
    elif now != before:
        get_run_logger().warning("params.yaml was edited during a run with overrides: it stays as it is")
    _BEFORE.unlink()
