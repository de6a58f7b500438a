"""Progress of long work on stderr: a moving line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from argosy.cli.text import clean, size

if TYPE_CHECKING:
    from rich.progress import Progress  # for the annotation; only a terminal loads it

_PLAIN_STEP_BYTES = 100_000_000


class Reporter(Protocol):
    def message(self, text: str) -> None:
        """What happens now."""

    def bytes(self, done: int, total: int) -> None:
        """How much of a transfer is done."""


class PlainReporter:
    """A line for each message, and for each 100 MB of a transfer."""

    def __init__(self, err: TextIO, title: str) -> None:
        self._err, self._title, self._next_bytes = err, title, _PLAIN_STEP_BYTES

    def message(self, text: str) -> None:
        print(f"{self._title}: {clean(text)}", file=self._err, flush=True)

    def bytes(self, done: int, total: int) -> None:
        if done >= self._next_bytes:
            self._next_bytes = done + _PLAIN_STEP_BYTES
            self.message(f"{size(done)} of {size(total)}")


@contextmanager
def reporter(err: TextIO, title: str) -> Iterator[Reporter]:
    if not err.isatty():
        yield PlainReporter(err, title)
        return
    # Imported here: only a terminal pays for it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    console = Console(file=err, highlight=False, markup=False, emoji=False)
    with Progress(*columns, BarColumn(bar_width=24), console=console, transient=True) as progress:
        yield _RichReporter(progress, title)


class _RichReporter:
    """The last message beside a spinner; those before it stay above as lines."""

    def __init__(self, progress: "Progress", title: str) -> None:
        self._progress, self._title, self._last, self._drawn = progress, title, "", 0.0
        self._task = progress.add_task(title, total=None)

    def message(self, text: str) -> None:
        if self._last:
            self._progress.console.print(f"  {self._last}", style="dim")
        self._last = clean(text)
        self._progress.update(self._task, description=f"{self._title}: {self._last}", total=None, completed=0)

    def bytes(self, done: int, total: int) -> None:
        if done < total and time.monotonic() - self._drawn < 0.1:
            return
        self._drawn = time.monotonic()
        text = f"{self._title}: {self._last or 'sending'} {size(done)} of {size(total)}"
        self._progress.update(self._task, description=text, completed=done, total=total)
