"""`make demo`'s script against a real control plane: once from nothing, once again on what it left.

The docs page it points to is opened in a real browser.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARGOSY = Path(sys.executable).with_name("argosy")


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a home of its own on free ports; everything is stopped afterwards."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARGOSY_")}
    environ = {**kept, "ARGOSY_HOME": str(tmp_path / "home"), "ARGOSY_PORT": "0", "ARGOSY_GATEWAY_PORT": "0"}
    yield environ
    subprocess.run([ARGOSY, "down"], env=environ, check=False, capture_output=True)


def demo(environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )


def rendered(browser: str, url: str, profile: Path) -> str:
    """The page's elements after its scripts have run."""
    options = "--headless --no-sandbox --disable-dev-shm-usage --disable-gpu --disable-quic --no-first-run "
    options += "--disable-background-networking "
    options += "--disable-component-update --disable-sync --virtual-time-budget=20000 --dump-dom"
    command = [browser, *options.split(), f"--user-data-dir={profile}", url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_demo_answers_and_can_be_run_again(
    surroundings: dict[str, str], require: Callable[[str], str], tmp_path: Path
) -> None:
    require("curl")
    browser = require("chromium")
    first = demo(surroundings)
    assert first.returncode == 0, first.stdout + first.stderr
    assert len(re.findall(r"->\s+(setosa|versicolor|virginica)", first.stdout)) == 5
    assert "used again" not in first.stdout
    commands = re.findall(r"^  \$ .*argosy (.*)$", first.stdout, re.MULTILINE)
    assert [" ".join(command.split()[:2]) for command in commands] == [
        "up",
        "model register",
        "manifest create",
        "image create",
        "service create",
    ]

    line = next(line for line in first.stdout.splitlines() if line.startswith("  curl "))
    pasted = subprocess.run(["bash", "-c", line], env=surroundings, capture_output=True, text=True, check=True)
    assert json.loads(json.loads(pasted.stdout))[0] in ("setosa", "versicolor", "virginica")
    keys = next(line for line in first.stdout.splitlines() if line.startswith("  keys ")).split(maxsplit=1)[1]
    shown = subprocess.run(["bash", "-c", keys], cwd=ROOT, env=surroundings, capture_output=True, text=True, check=True)
    assert re.search(r"Bearer (\S+)'", line).group(1) in shown.stdout  # type: ignore[union-attr]

    docs = next(line for line in first.stdout.splitlines() if line.startswith("  docs ")).split()[1]
    assert 'data-path="/score"' in rendered(browser, docs, tmp_path / "profile")

    second = demo(surroundings)
    assert second.returncode == 0, second.stdout + second.stderr
    assert re.findall(r"used again: (\w+) (\S+)", second.stdout) == [
        ("model", "iris-demo:1"),
        ("manifest", "iris-demo:1"),
        ("image", "iris-demo:1"),
        ("service", "iris-demo"),
    ]
    assert line in second.stdout.splitlines()


def test_a_taken_port_stops_the_demo_with_the_reason(surroundings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stopped = demo({**surroundings, "ARGOSY_PORT": str(port)})
    assert stopped.returncode == 2
    assert str(port) in stopped.stderr
    assert "this command failed" in stopped.stderr
    assert "Traceback" not in stopped.stderr
