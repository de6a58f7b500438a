"""One running server, whichever it is: started, asked until it answers, and ended with everything it started."""

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import argosy_rows, connections, machine, process_tree
from bench.argosy_rows import Start
from bench.cases import Case
from bench.connections import Target
from bench.peers import PEERS, Peer, model_environ

START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Running:
    """`health` is None where a server has no such path. `cold_start_s`: from the command to the first answer."""

    tree: process_tree.Tree
    target: Target
    health: Target | None
    cold_start_s: float
    idle_pss_bytes: int
    answer: bytes


TITLES = {name: peer.title for name, peer in PEERS.items()} | argosy_rows.TITLES
NAMES = tuple(TITLES)


@contextlib.contextmanager
def serving(name: str, case: Case, overload: bool = False) -> Iterator[Running]:
    """`overload`: Argosy keeps its default limits; else its queue is wide, as the peers' queues are."""
    with scratch() as folder:
        if name == argosy_rows.GATEWAY:
            with argosy_rows.behind_gateway(folder, case, overload) as (tree, target, health):
                yield _running(tree, target, health, math.nan)
            return
        if name in argosy_rows.TITLES:
            start = argosy_rows.prepare_replica(folder, case, overload, batching=name == argosy_rows.BATCHING)
        else:
            start = _prepare(PEERS[name], folder, case)
        began = time.monotonic()
        environ = {**machine.clean_environ(**model_environ(case)), **start.environ}
        tree = process_tree.start(start.argv, environ, folder)
        try:
            running = _running(tree, start.target, start.health, began)
            if name == argosy_rows.BATCHING:
                argosy_rows.check_batching(start.target)
            yield running
        except RuntimeError as problem:
            raise RuntimeError(f"{problem}\n{tail(folder)}") from problem
        finally:
            tree.stop()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder with a short path: sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tail(folder: Path) -> str:
    log = folder / "server.log"
    return os.linesep.join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""


def _prepare(peer: Peer, folder: Path, case: Case) -> Start:
    command = peer.prepare(peer.python(), folder, case)
    target = Target(command.port, peer.path, peer.encoded(case))
    health = target.get(peer.health) if peer.health else None
    return Start(command.argv, command.environ, target, health)


def _running(tree: process_tree.Tree, target: Target, health: Target | None, began: float) -> Running:
    answer = connections.wait_until_answered(target, tree.is_alive, START_TIMEOUT_S)
    return Running(tree, target, health, time.monotonic() - began, tree.pss_bytes(), answer)
