"""A server with everything it has started: its CPU time, its memory, its end."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from bench import machine

_STOP_S = 20.0


class Tree:
    """The processes below one launcher."""

    def __init__(self, launcher: "subprocess.Popen[bytes]") -> None:
        self._launcher = launcher
        self._process = psutil.Process(launcher.pid)

    def is_alive(self) -> bool:
        return self._launcher.poll() is None and bool(self.members())

    def members(self, keep: Callable[[psutil.Process], bool] = lambda _: True) -> list[psutil.Process]:
        try:
            return [process for process in self._process.children(recursive=True) if keep(process)]
        except psutil.Error:
            return []

    def control_planes(self) -> list[psutil.Process]:
        def is_one(process: psutil.Process) -> bool:
            with contextlib.suppress(psutil.Error):
                return "argosy.server" in process.cmdline()
            return False

        return self.members(is_one)

    def cpu_s(self) -> float:
        """CPU seconds of everything that lives or has lived below the launcher."""
        own = self._process.cpu_times()
        total = float(own.children_user + own.children_system)
        return total + sum(_cpu_s(process, children=True) for process in self.members())

    def pss_bytes(self) -> int:
        """Memory, with a page that several processes share counted once."""
        total = 0
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                total += int(process.memory_full_info().pss)
        return total

    def stop(self) -> None:
        self._launcher.terminate()
        try:
            self._launcher.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            for process in self.members():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._launcher.wait(_STOP_S)


def _cpu_s(process: psutil.Process, children: bool) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    own = times.user + times.system
    return float(own + times.children_user + times.children_system if children else own)


def cpu_of(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds of these alone, without their children."""
    return sum(_cpu_s(process, children=False) for process in processes)


def start(
    command: Sequence[str | Path],
    environ: Mapping[str, str],
    folder: Path,
    cores: Sequence[int] = (machine.SERVER_CORE,),
    keep: bool = False,
) -> Tree:
    """Start `command` on these cores; its output goes to `folder`/server.log. `keep`: its children may outlive it."""
    launcher = [sys.executable, str(machine.ROOT / "bench" / "launcher.py"), ",".join(map(str, cores))]
    launcher.append("keep" if keep else "end")
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*launcher, *map(str, command)],
            env=dict(environ),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    tree = Tree(process)
    until = time.monotonic() + 10
    while not tree.is_alive() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    return tree
