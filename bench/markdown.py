"""Pieces of the page."""

from collections.abc import Sequence


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.{digits}f}"


def reason(problem: str) -> str:
    """One line of it that a table can hold; all of it is in the raw results."""
    text = problem.splitlines()[0].removeprefix("RuntimeError: ")
    return text[:160].replace("|", "/") + ("..." if len(text) > 160 else "")


def heading(title: str) -> str:
    return f"### {title[0].upper()}{title[1:]}"
