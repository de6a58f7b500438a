"""Programs that some tests use where the machine has them. A missing one is listed, with the way to get it."""

import subprocess
from collections.abc import Callable

import pytest

PYTHONS = ["python3.10", "python3.11", "python3.12", "python3.13"]


@pytest.mark.parametrize("part", ["chromium", "curl", "docker-registry", "haproxy", "openssl", "skopeo", *PYTHONS])
def test_the_program_is_there_and_runs(require: Callable[[str], str], part: str) -> None:
    option = {"haproxy": "-v", "openssl": "version"}.get(part, "--version")
    assert subprocess.run([require(part), option], capture_output=True, check=False).returncode == 0
