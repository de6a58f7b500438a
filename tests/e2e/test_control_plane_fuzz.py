"""Schemathesis against the control plane's own document: whatever is sent to it, never a 5xx and never a hang."""

from pathlib import Path

from e2e.running import Argosy
from fuzzing import fuzz

CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance,ignored_auth"


def test_nothing_breaks_the_control_plane(argosy: Argosy, tmp_path: Path) -> None:
    token = (argosy.home / "token").read_text().strip()
    document = f"{argosy.address['url']}/openapi.json"
    # A login asks whatever host the fuzzer thinks of: its bad input is in tests/server/test_registries.py.
    left_out = ("--exclude-path", "/v1/shutdown", "--exclude-path", "/v1/registries/{host}")
    fuzz(document, token, tmp_path, "--checks", CHECKS, *left_out, examples=15)
    assert argosy.json("status")
    logs = [path.read_text(errors="replace") for path in (argosy.home / "logs").glob("*.log")]
    assert logs and not any("Traceback" in log for log in logs)
