"""B16, its reconcile part: CPU of one pass over 200 services with five replicas each, on the tests' fake replicas."""

import sys
import time
from pathlib import Path
from typing import Any

from bench import machine
from bench.results import middle
from bench.servers import scratch

_SERVICES, _REPLICAS = 200, 5


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    sys.path.insert(0, str(machine.ROOT / "tests"))
    from argosy.environments.registry import EnvironmentRegistry
    from services.fakes import Services
    from store.shelf import Shelf

    with scratch() as folder:
        shelf = Shelf(Path(folder))
        EnvironmentRegistry(shelf.database).create("local", "process")
        services = Services(shelf)
        names = [f"s{number}" for number in range(_SERVICES)]
        for name in names:
            services.create(name, _REPLICAS)
            services.settle(name)
        running = len(services.target.replicas)
        if running != _SERVICES * _REPLICAS:
            raise RuntimeError(f"{running} replicas run")
        took = []
        for _ in range(max(3, rounds)):
            began = time.process_time()
            for name in names:
                services.step(name)
            took.append((time.process_time() - began) * 1000)
        shelf.close()
    return {"cpu_ms": middle(took), "services": _SERVICES, "replicas": running}
