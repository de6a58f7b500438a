"""Results on stdout: tables for people (by rich on a terminal, plain columns elsewhere), JSON and YAML for programs.

A plain table is as wide as it needs to be: what reads it may be grep.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from argosy.cli.text import clean
from argosy.records import encode

_STATE_STYLES = {
    "healthy": "green", "ready": "green", "live": "green", "succeeded": "green", "running": "green", "ok": "green",
    "deploying": "yellow", "starting": "yellow", "draining": "yellow", "degraded": "yellow", "warn": "yellow",
    "pending": "yellow", "failed": "red", "fail": "red", "cancelled": "red", "stopped": "dim",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows below headers; `title` stands above when a result has several blocks."""

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    empty: str = ""


@dataclass(frozen=True)
class Pairs:
    """Labels and values, one a line; values that are None or empty are left out."""

    items: Sequence[tuple[str, object]]
    title: str = ""

    @property
    def shown(self) -> list[tuple[str, str]]:
        return [(label, clean(value)) for label, value in self.items if value not in (None, "", [], {})]


Block = Table | Pairs | str


def write(out: TextIO, form: str, data: Any, render: Callable[[], Sequence[Block]]) -> None:
    if form == "json":
        out.write(json.dumps(encode(data), indent=2, ensure_ascii=False) + "\n")
    elif form == "yaml":
        import yaml

        yaml.safe_dump(encode(data), out, sort_keys=False, allow_unicode=True, default_flow_style=False)
    elif out.isatty():
        _write_rich(out, render())
    else:
        out.write("\n".join(plain(block) for block in render()) + "\n")


def plain(block: Block) -> str:
    if isinstance(block, str):
        return block
    title = f"{block.title}\n" if block.title else ""
    if isinstance(block, Pairs):
        width = max((len(label) for label, _ in block.shown), default=0)
        return title + "\n".join(f"{label:<{width}}  {value}" for label, value in block.shown)
    if not block.rows and block.empty:
        return title + block.empty
    cells = [[header.upper() for header in block.headers], *([clean(cell) for cell in row] for row in block.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(block.headers))]
    return title + "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _write_rich(out: TextIO, blocks: Sequence[Block]) -> None:
    # Imported here: it costs as much as the rest of a command.
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=out, highlight=False, markup=False, emoji=False)
    for block in blocks:
        if isinstance(block, str):
            console.print(block, soft_wrap=True)
            continue
        if block.title:
            console.print(Text(block.title, style="bold"))
        if isinstance(block, Pairs):
            width = max((len(label) for label, _ in block.shown), default=0)
            for label, value in block.shown:
                line = Text.assemble((f"{label:<{width}}  ", "dim"), (value, _STATE_STYLES.get(value, "")))
                console.print(line, soft_wrap=True)
            continue
        if not block.rows and block.empty:
            console.print(block.empty, soft_wrap=True)
            continue
        table = RichTable(box=None, pad_edge=False, header_style="bold dim")
        for header in block.headers:
            table.add_column(header.upper(), overflow="fold")
        for row in block.rows:
            table.add_row(*(Text(clean(cell), style=_STATE_STYLES.get(str(cell), "")) for cell in row))
        console.print(Padding(table, 0))
