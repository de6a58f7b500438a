"""B10: memory and ready time of an idle replica over a bare script that loads the same model."""

import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from bench import argosy_rows, connections, machine, process_tree
from bench.cases import CASES
from bench.peers import model_environ
from bench.results import middle
from bench.servers import scratch

_SCRIPT = "import work, time\nwork.predictor()(work.decoder()({value}))\nprint('ready', flush=True)\ntime.sleep(600)\n"


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    seen = [(_script(), _replica()) for _ in range(rounds)]
    return {
        "over_mb": middle([(ours[0] - bare[0]) / 1e6 for bare, ours in seen]),
        "over_s": middle([ours[1] - bare[1] for bare, ours in seen]),
        "script_mb": middle([bare[0] / 1e6 for bare, _ in seen]),
        "time_ratio": middle([ours[1] / bare[1] for bare, ours in seen]),
    }


def script_ready_s() -> float:
    """From the command to the first prediction of a script that loads the iris model and predicts one row."""
    return _script()[1]


def _script() -> tuple[int, float]:
    case = CASES["iris"]
    environ = machine.clean_environ(**model_environ(case), PYTHONPATH=str(machine.APPS))
    command: list[str | Path] = [argosy_rows.python(), "-c", _SCRIPT.format(value=case.value)]
    began = time.monotonic()
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the bare script failed")
        took_s = time.monotonic() - began
        return int(psutil.Process(process.pid).memory_full_info().pss), took_s
    finally:
        process.kill()
        process.communicate()


def _replica() -> tuple[int, float]:
    case = CASES["iris"]
    with scratch() as folder:
        start = argosy_rows.prepare_replica(Path(folder), case, overload=True)
        began = time.monotonic()
        environ = {**machine.clean_environ(**model_environ(case)), **start.environ}
        tree = process_tree.start(start.argv, environ, folder)
        try:
            connections.wait_until_answered(start.target.get("/readyz"), tree.is_alive, 60)
            took_s = time.monotonic() - began
            return tree.pss_bytes(), took_s
        finally:
            tree.stop()
