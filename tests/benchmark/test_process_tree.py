"""What a server uses is counted whoever of it used it, and nothing of it stays."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench import machine, process_tree

_BURN = "import time\nwhile time.process_time() < 0.3: pass\n"
_PARENT = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {_BURN!r}])
print("done", flush=True)
time.sleep(60)
"""
_LEAVES_AN_ORPHAN = """
import subprocess, sys, time
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
subprocess.run([sys.executable, "-c", middle], start_new_session=True)
print("done", flush=True)
time.sleep(SLEEP)
"""


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(script: str, folder: Path, keep: bool = False) -> process_tree.Tree:
    tree = process_tree.start([sys.executable, "-c", script], dict(os.environ), folder, keep=keep)
    until(lambda: "done" in (folder / "server.log").read_text())
    return tree


def test_cpu_of_a_process_that_has_ended_counts(tmp_path: Path) -> None:
    tree = started(_PARENT, tmp_path)
    try:
        assert len(tree.members()) == 1
        assert tree.cpu_s() > 0.25  # the kernel counts in hundredths
        assert process_tree.cpu_of(tree.members()) < 0.25
        assert tree.pss_bytes() > 1_000_000
    finally:
        tree.stop()


def test_orphans_are_counted_and_ended(tmp_path: Path) -> None:
    tree = started(_LEAVES_AN_ORPHAN.replace("SLEEP", "60"), tmp_path)
    members = tree.members()
    assert len(members) == 2
    assert all(process.cpu_affinity() == [machine.SERVER_CORE] for process in members)
    tree.stop()
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in members)


@pytest.mark.parametrize("keep", [False, True])
def test_what_a_dead_server_leaves_ends_with_it_unless_it_is_to_be_kept(tmp_path: Path, keep: bool) -> None:
    tree = started(_LEAVES_AN_ORPHAN.replace("SLEEP", "0"), tmp_path, keep)
    if keep:
        until(lambda: len(tree.members()) == 1)
        assert tree.is_alive()
    else:
        until(lambda: not tree.is_alive())
    tree.stop()
    assert tree.members() == []
