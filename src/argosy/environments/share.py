"""How many threads the numeric libraries of a replica may use.

Every library starts as many threads as the machine has cores. With several replicas these pools fight: two workers
with default OpenMP threads on two cores answer 20 to 200 times fewer requests than with one thread each.
"""

import math
import os
from collections.abc import Mapping

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ARROW_NUM_THREADS",
)


def thread_variables(cpu: float | None, slots: int, variables: Mapping[str, str]) -> dict[str, str]:
    """Thread counts for a replica with `cpu` cores (None: one per slot), at least 1 a slot; what the user set stays."""
    cores = min(cpu or float(slots), float(os.cpu_count() or 1))
    threads = str(max(1, math.floor(cores / slots)))
    return {name: threads for name in VARIABLES if name not in variables}
