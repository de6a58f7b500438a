"""Many services, and many replicas of one: how long until all are healthy, and what they cost while nobody calls.

`BENCH_MANY="100x2,100"` is services x replicas of each, and then the replicas of one alone; fewer where the free memory
would not hold them, and the results say how many there were. The model does nothing, so that all of it is Argosy's.
"""

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

import argosy
from argosy.gateway.gateway import Gateway
from argosy.gateway.routes import Route, Server
from argosy.settings import Home as Place
from argosy.settings import Settings
from bench import argosy_rows, machine, process_tree
from bench.argosy_rows import Home
from bench.results import middle
from bench.servers import scratch

_SCRIPT = "def init():\n    pass\n\ndef run(raw_data):\n    return raw_data\n"
_REPLICA_BYTES = 60e6  # while it starts; much less when it is idle
_SHARE = 0.6  # of the free memory
_HEALTHY_S = 1_800.0
_CALM_S = 5.0
_BARE = "import time\nprint('ready', flush=True)\ntime.sleep(600)\n"


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    services, each, alone = _wanted(psutil.virtual_memory().available)
    idle_s = max(10.0, 5 * seconds)
    with scratch() as folder, argosy_rows.home(folder, machine.CORES) as home:
        image = _image(home)
        single_s = middle([_start(home, {"single": 1}, image) for _ in range(max(3, rounds))])
        if single_s is None:
            raise RuntimeError("no single replica was measured")
        found = {
            "services": _figures(home, {f"many-{number}": each for number in range(services)}, image, single_s, idle_s),
            "replicas": _figures(home, {"alone": alone}, image, single_s, idle_s),
        }
    gateway = [_gateway(services, each) / _gateway(1, each) for _ in range(max(3, rounds))]
    return {"single_s": single_s, **found, "gateway_ratio": middle(gateway)}


def _wanted(free_bytes: float) -> tuple[int, int, int]:
    """Services, replicas of each, replicas of one alone; at most what `free_bytes` hold."""
    given = os.environ.get("BENCH_MANY", "100x2,100")
    asked = re.fullmatch(r"(\d+)x(\d+),(\d+)", given)
    if asked is None:
        raise RuntimeError(f'BENCH_MANY={given!r}: write it as in "100x2,100"')
    services, each, alone = map(int, asked.groups())
    most = int(free_bytes * _SHARE / _REPLICA_BYTES)
    return max(1, min(services, most // each)), each, max(1, min(alone, most))


def _image(home: Home) -> str:
    """Made on the way of a first service, which is deleted again."""
    files = home.folder / "nothing"
    files.mkdir()
    (files / "model.txt").write_text("nothing")
    (files / "score.py").write_text(_SCRIPT)
    home.run("service", "create", "nothing", "-m", files / "model.txt", "-f", files / "score.py")
    home.run("service", "delete", "nothing", "--yes")
    return "nothing:1"


def _start(home: Home, wanted: dict[str, int], image: str, keep: bool = False) -> float:
    """Seconds from the first command until every service is healthy."""
    began = time.monotonic()
    with argosy.connect(home=home.home) as client:
        for name, replicas in wanted.items():
            client.services.create(name, image=image, replicas=replicas, wait=False)
        while True:
            ready = {service.name: service.replicas_ready for service in client.services.list()}
            took_s = time.monotonic() - began
            if all(ready.get(name) == replicas for name, replicas in wanted.items()):
                break
            if took_s > _HEALTHY_S:
                raise RuntimeError(f"{sum(ready.values())} replicas ready after {took_s:.0f} s")
            time.sleep(min(0.5, 0.02 * len(wanted)))
    if not keep:
        _delete(home, wanted)
    return took_s


def _delete(home: Home, wanted: dict[str, int]) -> None:
    with argosy.connect(home=home.home) as client:
        for operation in [client.services.delete(name, wait=False) for name in wanted]:
            client.operations.wait(operation.id)


def _figures(home: Home, wanted: dict[str, int], image: str, single_s: float, idle_s: float) -> dict[str, Any]:
    assert home.tree is not None
    took_s = _start(home, wanted, image, keep=True)
    time.sleep(_CALM_S)
    replicas, planes = home.tree.members(_is_replica), home.tree.control_planes()
    total = sum(wanted.values())
    if len(replicas) != total:
        raise RuntimeError(f"{len(replicas)} processes of {total} replicas")
    before = process_tree.cpu_of(replicas), process_tree.cpu_of(planes)
    time.sleep(idle_s)
    after = process_tree.cpu_of(replicas), process_tree.cpu_of(planes)
    pss = sum(int(replica.memory_full_info().pss) for replica in replicas) / total
    bare = _bare_pss(replicas[0].exe())
    _delete(home, wanted)
    return {
        "services": len(wanted),
        "replicas": total,
        "seconds": took_s,
        "start_ratio": took_s / (total * single_s / len(machine.CORES)),
        "pss_ratio": pss / bare,
        "service_cpu_percent": (after[0] - before[0]) / idle_s / len(wanted) * 100,
        "control_plane_cpu_percent": (after[1] - before[1]) / idle_s * 100,
    }


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "argosy_serving" in process.cmdline()
    except psutil.Error:
        return False


def _bare_pss(python: str) -> int:
    """Of an interpreter that does nothing, beside the replicas: it shares its pages as they do."""
    process = subprocess.Popen([python, "-c", _BARE], env=machine.clean_environ(), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the bare interpreter failed")
        return int(psutil.Process(process.pid).memory_full_info().pss)
    finally:
        process.kill()
        process.communicate()


def _gateway(services: int, each: int) -> float:
    """Seconds until a gateway with so many services has taken one more server."""

    def route(number: int, servers: int, folder: Path) -> Route:
        made = tuple(Server(f"s{number}-r{n}", f"unix@{folder}/s{number}-r{n}") for n in range(servers))
        return Route(f"s{number}", made, 60_000, 1_068)

    with scratch() as folder:
        place = Place(folder / "home")
        place.prepare()
        gateway = Gateway(place, Settings(gateway_port=0))
        routes = [route(number, each, folder) for number in range(services)]
        try:
            gateway.ensure_running(routes)
            began = time.monotonic()
            gateway.apply([*routes[:-1], route(services - 1, each + 1, folder)])
            return time.monotonic() - began
        finally:
            gateway.stop(0)
