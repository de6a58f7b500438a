"""Schemathesis against both documents of running replicas: what the documents say is what happens, and never a 5xx."""

import socket
import time
import urllib.request
from typing import Any

import pytest

from fuzzing import fuzz

KEY = "the-primary-key"
TYPED = {
    "input": {
        "rows": {"type": "numpy", "dtype": "float64", "shape": [None, 2]},
        "counts": {"type": "numpy", "dtype": "uint8", "shape": [None, 2, 1]},
        "df": {
            "type": "pandas",
            "extra_columns": "refuse",
            "columns": [
                {"name": "a/b", "dtype": "float64"},
                {"name": "n", "dtype": "int32"},
                {"name": "kind", "dtype": "category", "categories": ["x", "y"]},
                {"name": "ok", "dtype": "bool"},
            ],
        },
        "options": {
            "swagger": {
                "type": "object",
                "required": ["k"],
                "properties": {"k": {"type": "integer", "minimum": 1, "maximum": 9}, "mode": {"enum": ["a", 1, None]}},
            }
        },
    },
    "output": {"label": {"swagger": {"type": "array", "items": {"type": "integer"}}}},
}
BYTES = {"input": {"image": {"swagger": {"type": "string", "format": "byte"}}, "note": {"swagger": {"type": "string"}}}}
CASES = {
    "typed": (TYPED, "def run(rows, counts, df, options): return [len(rows), len(df), int(counts.sum())]"),
    "bytes": (BYTES, "def run(image, note): return [len(image), note]"),
    "raw": ({"input": {"x": BYTES["input"]["image"]}}, "def run(x): return len(x)"),
    "bare": (None, "def run(raw: bytes): return len(raw)"),
}


def start(replica: Any, case: str) -> str:
    schema, script = CASES[case]
    replica.write_image(script, schema)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    replica.launch(listen={"host": "127.0.0.1", "port": port})
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"not ready: {replica.log_text()}")


def check_log(replica: Any) -> None:
    assert [line for line in replica.log() if line["level"].lower() in ("error", "critical")] == []


@pytest.mark.parametrize("document", ["openapi.json", "swagger.json"])
def test_what_the_document_allows_is_accepted_and_nothing_else(replica: Any, document: str) -> None:
    url = start(replica, "typed")
    said = fuzz(f"{url}/{document}", KEY, replica.folder, "--checks", "all", "--include-path", "/score")
    assert "1 selected" in said
    check_log(replica)


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.shows(
    "Inputs and outputs",
    "Bad requests never give a 5xx",
    "schemathesis against `openapi.json`",
)
def test_nothing_breaks_a_replica(replica: Any, case: str) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    url = start(replica, case)
    fuzz(f"{url}/openapi.json", KEY, replica.folder, "--checks", f"{checks},ignored_auth")
    check_log(replica)
