"""What every command is given: where to print, the client, progress, and the question before a deletion."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # see argosy/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any, TextIO

    from argosy.cli.output import Block
    from argosy.cli.progress import Reporter
    from argosy.sdk.client import Client


class Session:
    """One command's surroundings. `going_on` says what to do about work that an interrupt does not stop."""

    def __init__(self, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self.stdout, self.stderr, self.environ = stdout, stderr, environ
        self.output_format = "table"
        self.going_on = ""
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Connected on first use; raises NotRunning when there is no control plane."""
        if self._client is None:
            from argosy.sdk.address import locate
            from argosy.sdk.client import Client

            self._client = Client.at(locate(environ=self.environ))
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def tell(self, text: str) -> None:
        """A line beside the result, for people."""
        print(text, file=self.stderr, flush=True)

    def show(self, data: Any, render: Callable[[], Sequence[Block]]) -> None:
        """Print the result: `data` (records or JSON values) for `-o json|yaml`, else what `render` makes of it."""
        from argosy.cli import output

        output.write(self.stdout, self.output_format, data, render)

    def progress(self, title: str) -> AbstractContextManager[Reporter]:
        """Progress of one long job, on stderr."""
        from argosy.cli.progress import reporter

        return reporter(self.stderr, title)

    def confirm(self, question: str, yes: bool) -> None:
        """Go on after `--yes` or a typed y; raises UserError otherwise."""
        from argosy.errors import UserError

        if yes:
            return
        if not (sys.stdin.isatty() and self.stderr.isatty()):
            raise UserError(f"{question} Nobody is there to answer: repeat the command with --yes.")
        print(f"{question} [y/N] ", end="", file=self.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UserError("Nothing was deleted.")
