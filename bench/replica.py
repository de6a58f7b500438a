"""CPU per request of a replica against a bare uvicorn application that answers the same (budgets B1, B4, B5, B6).

    python bench/replica.py [--seconds 3] [--rounds 3] [--case iris] [--connections 16]

Both servers are pinned to one core and the client to another where the machine has two. The floor decodes with orjson
and numpy, predicts and encodes, and owes nothing else; the replica also checks the key, the schema and its admission,
runs user code off the loop, counts and times. Rounds alternate, medians are printed. `wrk` is used when it is there.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SOURCE = Path(__file__).resolve().parents[1] / "src"
KEY = "bench"
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]

FLOOR = """
import orjson, numpy as np
{prepare}

async def app(scope, receive, send):
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    value = orjson.loads(body)["x"]
    result = orjson.dumps({expression}, option=orjson.OPT_SERIALIZE_NUMPY)
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(result))]}})
    await send({{"type": "http.response.body", "body": result}})
"""
SCRIPT = """
{prepare}

def run(x):
    value = x
    return {expression}
"""
IRIS = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
"""
FRAME = """
import numpy as np, pandas as pd
columns = {columns}
index = pd.Index(columns)
"""
BOOSTED = """
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
rng = np.random.default_rng(0)
rows = rng.normal(size=(500, 20))
model = HistGradientBoostingClassifier(max_iter=50).fit(rows, rows[:, 0] > 0)
"""


@dataclass(frozen=True)
class Case:
    """One comparison. `decoded` is the floor's expression for what the replica's schema makes of the value."""

    budget: str
    prepare: str
    expression: str
    decoded: str
    entry: dict[str, Any]
    value: Any


CASES = {
    "iris": Case(
        "B1 <= 1.0 at 16 connections, <= 1.3 at 1", IRIS, "model.predict(value)", "np.array(value)",
        {"type": "numpy", "dtype": "float64", "shape": [None, 4]}, [[5.1, 3.5, 1.4, 0.2]],
    ),
    "noop": Case(
        "B4 <= 1.3", "", "[1]", "value", {"type": "standard", "swagger": {}}, [[5.1, 3.5, 1.4, 0.2]],
    ),
    "frame": Case(
        "B5 <= 1.2", FRAME.format(columns=COLUMNS) + IRIS.replace("LogisticRegression(", "LogisticRegression("),
        "model.predict(value.to_numpy())",
        "pd.DataFrame(np.array([[row[c] for c in columns] for row in value]), columns=index)",
        {"type": "pandas", "columns": [{"name": name, "dtype": "float64"} for name in COLUMNS]},
        [dict(zip(COLUMNS, [5.1, 3.5, 1.4, 0.2], strict=True))],
    ),
    "rows": Case(
        "B6 <= 1.1", BOOSTED, "model.predict(value)", "np.array(value)",
        {"type": "numpy", "dtype": "float64", "shape": [None, 20]},
        [[((i * 37 + j * 101) % 1000) / 333.3 for j in range(20)] for i in range(100)],
    ),
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int, command: list[str]) -> list[str]:
    if (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(core), *command]


@contextlib.contextmanager
def server(command: list[str], port: int, ready: str) -> Iterator[psutil.Process]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen(pinned(0, command), env=environment)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{ready}", data=None)):
                    break
            except urllib.error.HTTPError as answer:
                if answer.code != 503:
                    break
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"The server did not start: {' '.join(command)}")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def floor_command(folder: Path, case: Case, port: int) -> list[str]:
    expression = case.expression.replace("value", f"({case.decoded})") if case.decoded != "value" else case.expression
    # A probe without a body must not fail the floor.
    text = FLOOR.format(prepare=case.prepare, expression=expression).replace(
        "    value =", "    body = body or START\n    value ="
    )
    start = "START = b" + repr(json.dumps({"x": case.value}))
    (folder / "floor.py").write_text(text.replace("\nasync def", f"{start}\n\nasync def", 1))
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--lifespan", "off"]
    return [sys.executable, "-m", "uvicorn", "floor:app", "--app-dir", str(folder), "--port", str(port),
            "--log-level", "warning", *options]  # fmt: skip


def replica_command(folder: Path, case: Case, port: int) -> list[str]:
    image = folder / "image"
    (image / "code").mkdir(parents=True, exist_ok=True)
    (image / "code" / "score.py").write_text(SCRIPT.format(prepare=case.prepare, expression=case.expression))
    document = {"digest": "bench", "name": "bench:1", "models": [], "script": "score.py",
                "schema": {"input": {"x": case.entry}}, "samples": [{"input": {"x": case.value}}]}  # fmt: skip
    (image / "image.json").write_text(json.dumps(document))
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"keys": [hashlib.sha256(KEY.encode()).hexdigest()], "max_queued_requests": 1000,
                                    "max_queue_wait_ms": 30_000}))  # fmt: skip
    spec = folder / "spec.json"
    spec.write_text(
        json.dumps({"id": "bench-1", "service": "bench", "revision": 1, "image": str(image),
                    "listen": {"host": "127.0.0.1", "port": port}, "scratch": str(folder / "scratch"),
                    "settings": str(settings), "log": str(folder / "log")})
    )  # fmt: skip
    return [sys.executable, "-m", "argosy_serving", str(spec)]


def load(port: int, body: bytes, connections: int, seconds: float) -> int:
    """Send for `seconds`; the number of answers."""
    if shutil.which("wrk"):
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(
                f"wrk.method='POST'\nwrk.body=[==[{body.decode()}]==]\nwrk.path='/score'\n"
                f"wrk.headers['Content-Type']='application/json'\nwrk.headers['Authorization']='Bearer {KEY}'\n"
            )
            script.flush()
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", script.name,
                       f"http://127.0.0.1:{port}"]  # fmt: skip
            out = subprocess.run(pinned(1, command), capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in out:
            raise SystemExit(out)
        return int(next(line for line in out.splitlines() if " requests in " in line).split()[0])
    return asyncio.run(_load(port, body, connections, seconds))


async def _load(port: int, body: bytes, connections: int, seconds: float) -> int:
    head = (
        f"POST /score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    until = time.monotonic() + seconds
    answers = 0

    async def one() -> None:
        nonlocal answers
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(answer.decode())
            answers += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return answers


def measure(process: psutil.Process, port: int, body: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """Microseconds of server CPU per request, and requests per second."""
    before = process.cpu_times()
    started = time.monotonic()
    answers = load(port, body, connections, seconds)
    took_s = time.monotonic() - started
    after = process.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return cpu_s / max(1, answers) * 1e6, answers / took_s


def compare(name: str, case: Case, connections: list[int], seconds: float, rounds: int) -> None:
    body = json.dumps({"x": case.value}).encode()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ports = [free_port(), free_port()]
        with (
            server(floor_command(folder, case, ports[0]), ports[0], "/") as floor,
            server(replica_command(folder, case, ports[1]), ports[1], "/readyz") as replica,
        ):
            for pair in zip((floor, replica), ports, strict=True):
                measure(*pair, body, 16, min(1.0, seconds))
            for count in connections:
                costs: tuple[list[float], list[float]] = ([], [])
                rates: tuple[list[float], list[float]] = ([], [])
                for _ in range(rounds):
                    for side, process in enumerate((floor, replica)):
                        cost, rate = measure(process, ports[side], body, count, seconds)
                        costs[side].append(cost)
                        rates[side].append(rate)
                low, ours = (statistics.median(side) for side in costs)
                slow, fast = (statistics.median(side) for side in rates)
                print(
                    f"{name:6} {count:3} connections: floor {low:6.0f} us, {slow:6.0f}/s; replica {ours:6.0f} us, "
                    f"{fast:6.0f}/s; CPU ratio {ours / low:.2f}  ({case.budget})",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    parser.add_argument("--connections", type=int, action="append")
    options = parser.parse_args()
    for name in options.case or list(CASES):
        compare(name, CASES[name], options.connections or [16, 1], options.seconds, options.rounds)


if __name__ == "__main__":
    main()
