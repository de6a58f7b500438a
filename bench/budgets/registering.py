"""B13: registering a 1 GB file against `sha256sum` and `cp` of it, one after the other as a script would.

The whole way of `argosy model register`, from the SDK over HTTP into a control plane of its own. `sync` runs before
each so that nobody pays for another's dirty pages. TMPDIR should be on the disk that matters.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import argosy
from bench import argosy_rows
from bench.results import middle
from bench.servers import scratch

_BLOCK_BYTES = 1 << 20
_SIZE_BYTES = 1_000_000_000


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    floor, ours, growth = [], [], []
    with scratch() as folder, argosy_rows.home(folder) as home:
        source = folder / "model.bin"
        make(source, _SIZE_BYTES)
        for _ in range(rounds):
            os.sync()
            floor.append(_tools(source))
            os.sync()
            assert home.tree is not None
            took_s, grown = _registered(source, home.home, home.tree.control_planes()[0])
            ours.append(took_s)
            growth.append(grown)
    return {
        "ratio": middle([mine / tools for mine, tools in zip(ours, floor, strict=True)]),
        "growth_mb": max(growth) / 1e6,
    }


def make(path: Path, size_bytes: int) -> None:
    with path.open("wb") as out:
        while size_bytes > 0:
            out.write(os.urandom(min(size_bytes, _BLOCK_BYTES)))
            size_bytes -= _BLOCK_BYTES


def _tools(source: Path) -> float:
    copy = source.with_suffix(".copy")
    began = time.perf_counter()
    subprocess.run(["sha256sum", source], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cp", source, copy], check=True)
    took_s = time.perf_counter() - began
    copy.unlink()
    return took_s


def _registered(source: Path, home: Path, server: psutil.Process) -> tuple[float, int]:
    """Each time a version of new content: a blob that is there already would not be written again."""
    with source.open("r+b") as stream:
        stream.write(os.urandom(16))
    os.sync()
    with _memory_growth(server) as growth:
        began = time.perf_counter()
        model = argosy.connect(home=home).models.register(source, "bench")
        took_s = time.perf_counter() - began
    (home / "blobs" / "sha256" / model.files[0].sha256[:2] / model.files[0].sha256).unlink()
    return took_s, growth[0]


@contextlib.contextmanager
def _memory_growth(process: psutil.Process) -> Iterator[list[int]]:
    """The most that the process grew over what it had, in bytes; sampled each 20 ms."""
    start, most, stop = process.memory_info().rss, [0], threading.Event()

    def sample() -> None:
        while not stop.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss - start)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()
