"""The id of the request that is being worked on, so that what user code prints and logs carries it.

A context variable follows `await` and the slot threads by itself. Threads and executor jobs that user code starts
inherit nothing before Python 3.14, so `inherit_in_threads` hands the caller's context on to them.
"""

import concurrent.futures
import contextlib
import contextvars
import functools
import threading
from collections.abc import Iterator
from typing import Any

REQUEST_ID: "contextvars.ContextVar[str]" = contextvars.ContextVar("argosy_request_id", default="")


@contextlib.contextmanager
def working_on(request_id: str) -> Iterator[None]:
    """Log lines inside carry this id. For callbacks of the loop, which share one context."""
    token = REQUEST_ID.set(request_id)
    try:
        yield
    finally:
        REQUEST_ID.reset(token)


def inherit_in_threads() -> None:
    """Patch, once per process, where threads and executor jobs start."""
    if getattr(threading.Thread.start, "_argosy", False):
        return
    start = threading.Thread.start
    submit: Any = concurrent.futures.ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_in_context(self: threading.Thread) -> None:
        if request_id := REQUEST_ID.get():
            run = self.run

            def run_with_id() -> None:
                REQUEST_ID.set(request_id)
                run()

            self.run = run_with_id  # type: ignore[method-assign]
        start(self)

    def submit_in_context(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        # A pool's thread outlives the request that made it start, so each job brings its own context.
        return submit(self, contextvars.copy_context().run, fn, *args, **kwargs)

    functools.update_wrapper(submit_in_context, submit)
    start_in_context._argosy = True  # type: ignore[attr-defined]
    threading.Thread.start = start_in_context  # type: ignore[method-assign]
    concurrent.futures.ThreadPoolExecutor.submit = submit_in_context  # type: ignore[method-assign]
