"""Progress of long work on stderr: a moving line on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from argosy.cli.text import clean, size

if TYPE_CHECKING:
    from rich.progress import Progress  # for the annotation; only a terminal loads it

_PLAIN_STEP_BYTES = 100_000_000
_BAR_CELLS = 24


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
        for line in text.splitlines() or [""]:
            print(f"{self._title}: {clean(line)}", file=self._err, flush=True)

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
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(file=err, highlight=False, markup=False, emoji=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=8) as progress:
        yield _RichReporter(progress, title)


class _RichReporter:
    """The last message, or the bar of a transfer, beside a spinner; messages before it stay above as lines."""

    def __init__(self, progress: "Progress", title: str) -> None:
        self._progress, self._title, self._last = progress, title, ""
        self._task = progress.add_task(title, total=None)

    def message(self, text: str) -> None:
        for line in text.splitlines() or [""]:
            if self._last:
                self._progress.console.print(f"  {self._last}", markup=False)
            self._last = clean(line)
        self._progress.update(self._task, description=f"{self._title}: {self._last}")

    def bytes(self, done: int, total: int) -> None:
        self._progress.update(self._task, description=f"{self._title}: {bar(done, total)}")


def bar(done: int, total: int) -> str:
    """`━━━━━━────── 50 %  1.0 GB of 2.0 GB`."""
    share = done / total if total else 1.0
    full = int(share * _BAR_CELLS)
    return f"{'━' * full}{'─' * (_BAR_CELLS - full)} {share:4.0%}  {size(done)} of {size(total)}"
