"""Registering a large file against `sha256sum` and `cp` of it (budget B13: at most 1.6 times; memory growth <= 50 MB).

    python bench/register.py [--megabytes 1000] [--rounds 3]

Three ways: the blob writer alone, fsync included; the whole way of `argosy model register`, from the SDK over HTTP into
a control plane of its own; and for comparison the two tools one after the other, as a script would. Rounds alternate,
medians are printed. `sync` runs before each so that nobody pays for another's dirty pages. The folder of the
temporary files (TMPDIR) should be on the disk that matters.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

import argosy
from argosy.errors import NotRunning
from argosy.store.blobs import LocalBlobs

_BLOCK_BYTES = 1 << 20
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Run:
    time_s: float
    growth_bytes: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.bin"
        make(source, arguments.megabytes * 1_000_000)
        with control_plane(Path(folder) / "home") as server:
            ways: dict[str, Callable[[], Run]] = {
                "sha256sum + cp": lambda: tools(source),
                "blob writer": lambda: writer(source),
                "SDK + REST": lambda: registered(source, Path(folder) / "home", server),
            }
            runs: dict[str, list[Run]] = {label: [] for label in ways}
            for _ in range(arguments.rounds):
                for label, way in ways.items():
                    os.sync()
                    runs[label].append(way())
    report(runs, arguments.megabytes)


def report(runs: dict[str, list[Run]], megabytes: int) -> None:
    floor_s = statistics.median(run.time_s for run in runs["sha256sum + cp"])
    for label, found in runs.items():
        time_s = statistics.median(run.time_s for run in found)
        growth = max(run.growth_bytes for run in found) / 1e6
        print(
            f"{label:16} {time_s:6.2f} s  {megabytes / time_s:6.0f} MB/s  ratio {time_s / floor_s:4.2f}  "
            f"memory growth {growth:5.1f} MB"
        )


def make(path: Path, size_bytes: int) -> None:
    with path.open("wb") as out:
        while size_bytes > 0:
            out.write(os.urandom(min(size_bytes, _BLOCK_BYTES)))
            size_bytes -= _BLOCK_BYTES


def tools(source: Path) -> Run:
    copy = source.with_suffix(".copy")
    began = time.perf_counter()
    subprocess.run(["sha256sum", source], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cp", source, copy], check=True)
    took_s = time.perf_counter() - began
    copy.unlink()
    return Run(took_s)


def writer(source: Path) -> Run:
    root = source.with_suffix(".blobs")
    blobs = LocalBlobs(root)
    with memory_growth(psutil.Process()) as growth, source.open("rb") as stream:
        began = time.perf_counter()
        blobs.put(iter(lambda: stream.read(_BLOCK_BYTES), b""))
        took_s = time.perf_counter() - began
    blobs.close()
    shutil.rmtree(root)
    return Run(took_s, growth[0])


def registered(source: Path, home: Path, server: psutil.Process) -> Run:
    """Each time a version of new content: a blob that is there already would not be written again."""
    with source.open("r+b") as stream:
        stream.write(os.urandom(16))
    os.sync()
    with memory_growth(server) as growth:
        began = time.perf_counter()
        model = argosy.connect(home=home).models.register(source, "bench")
        took_s = time.perf_counter() - began
    (home / "blobs" / "sha256" / model.files[0].sha256[:2] / model.files[0].sha256).unlink()
    return Run(took_s, growth[0])


@contextlib.contextmanager
def memory_growth(process: psutil.Process) -> Iterator[list[int]]:
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


@contextlib.contextmanager
def control_plane(home: Path) -> Iterator[psutil.Process]:
    """A control plane with its gateway, on free ports, gone afterwards."""
    environment = {**os.environ, "ARGOSY_HOME": str(home)}
    command = [sys.executable, "-m", "argosy.server"]
    with (home.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", "0", "--gateway-port", "0"], env=environment, stdout=log, stderr=log
        )
    try:
        give_up = time.monotonic() + _START_TIMEOUT_S
        while True:
            with contextlib.suppress(NotRunning):
                argosy.connect(home=home).status()
                break
            if process.poll() is not None or time.monotonic() > give_up:
                sys.exit(f"The control plane did not start:\n{(home.parent / 'server.log').read_text()}")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
        subprocess.run([*command, "--stop-all"], env=environment, check=False)


if __name__ == "__main__":
    main()
