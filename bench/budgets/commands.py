"""B12: how long a command takes to start, over `python -c pass` of the same Python."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import argosy_rows, machine
from bench.results import middle
from bench.servers import scratch

_REPEATS = 5  # of each in a round; the least counts, since a start can only be slowed down


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    program = Path(sys.executable).with_name("argosy")
    with scratch() as folder, argosy_rows.home(folder) as home:
        commands: dict[str, list[str | Path]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "argosy --help": [program, "--help"],
            "argosy version": [program, "version"],
            "argosy model list": [program, "model", "list"],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                took[name].append(min(_took_s(command, home.environ) for _ in range(_REPEATS)))
    floor = took.pop("python -c pass")
    return {
        "ratios": {
            name: middle([mine / bare for mine, bare in zip(values, floor, strict=True)])
            for name, values in took.items()
        }
    }


def _took_s(command: Sequence[str | Path], environ: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=machine.clean_environ() | environ, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
