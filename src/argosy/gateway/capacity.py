"""How much HAProxy may take of this machine."""

import os
import resource

_MOST_CONNECTIONS = 10_000
_MOST_THREADS = 4


def connection_limit(open_files: int | None = None) -> int:
    """Client connections at once. Each needs a second descriptor towards a replica; checks and sockets need more.

    `open_files` is the hard limit of descriptors (default: this process's), to which HAProxy is raised.
    """
    if open_files is None:
        open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if open_files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(_MOST_CONNECTIONS, (open_files - min(1000, open_files // 4)) // 2)


def thread_count() -> int:
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))
