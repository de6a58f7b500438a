"""B16, its reconcile part: CPU of one pass over 200 services with five replicas each, on the tests' fake replicas.

Each service has just been woken, so that its state is read anew; a pass over calm ones is noted beside it.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.results import middle
from bench.servers import scratch

if TYPE_CHECKING:
    from services.fakes import Services

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
        calm, woken = [], []
        for _ in range(max(3, rounds)):
            calm.append(_pass_ms(services, names))
            for name in names:
                services.reconciler.wake(name)
            woken.append(_pass_ms(services, names))
        shelf.close()
    return {"cpu_ms": middle(woken), "calm_cpu_ms": middle(calm), "services": _SERVICES, "replicas": running}


def _pass_ms(services: "Services", names: list[str]) -> float:
    """CPU of one pass over all. After `wake` each reads its service from the database again."""
    began = time.process_time()
    for name in names:
        services.step(name)
    return (time.process_time() - began) * 1000
