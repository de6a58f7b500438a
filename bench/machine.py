"""The machine: which core is the server's and which the client's, and what is said of both in the report."""

import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
APPS = ROOT / "bench" / "apps"

# One thread for each pool of native code: two pools on one core wait for each other, in every server alike.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "ARROW_NUM_THREADS"), "1"
)


def cache() -> Path:
    """Where the peers' environments and the trained models are kept."""
    return Path(os.environ.get("ARGOSY_BENCH_CACHE") or Path.home() / ".cache" / "argosy-bench")


# As they were before this process was pinned to one of them.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]


def pin_client() -> None:
    """Keep this process and its load generators off the server's core, where there is another."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[1]})


def is_root() -> bool:
    return os.geteuid() == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environ(**more: str) -> dict[str, str]:
    """This environment without settings of Argosy's and of Python's own, with one thread for each native pool."""
    dropped = ("ARGOSY_", "PYTHON", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | ONE_THREAD | more


def describe() -> dict[str, Any]:
    """What the report says of this machine."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "architecture": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "generator": "wrk" if shutil.which("wrk") else "own asyncio client",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
