"""Response files for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from azeros.evaluation.responses import Response


def response(**fields: Any) -> Response:
    return Response(Path("responses.jsonl"), 1, fields)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
