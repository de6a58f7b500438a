"""Schemathesis against a running server, in an environment of its own, so that its packages meet none of ours."""

import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

SCHEMATHESIS = "schemathesis==4.32.5"
_SLOWEST_ANSWER_S = "20"  # a hang, whatever else the machine does meanwhile


def fuzz(document: str, token: str, folder: Path, *options: str, examples: int = 40) -> str:
    """What it printed. Raises AssertionError when it found something; the report shows how to repeat it."""
    command = [
        find_uv_bin(), "run", "--quiet", "--no-project", "--python", sys.executable, "--with", SCHEMATHESIS,
        "st", "run", document, "--header", f"Authorization: Bearer {token}", "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(examples), "--generation-deterministic", "--no-color",
        "--request-timeout", _SLOWEST_ANSWER_S, *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=500)
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2000:]}"
    return done.stdout
