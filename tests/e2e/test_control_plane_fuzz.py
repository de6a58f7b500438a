"""Schemathesis against the control plane's own document: whatever is sent to it, never a 5xx and never a hang."""

from pathlib import Path

from e2e.running import Argosy
from fuzzing import fuzz

CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance,ignored_auth"


def test_nothing_breaks_the_control_plane(argosy: Argosy, tmp_path: Path) -> None:
    token = (argosy.home / "token").read_text().strip()
    document = f"{argosy.address['url']}/openapi.json"
    fuzz(document, token, tmp_path, "--checks", CHECKS, "--exclude-path", "/v1/shutdown", examples=15)
    assert argosy.json("status")
    logs = [path.read_text(errors="replace") for path in (argosy.home / "logs").glob("*.log")]
    assert logs and not any("Traceback" in log for log in logs)
