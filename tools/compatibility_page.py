"""Writes docs/compatibility.md: what works, and the test that shows it. Run by `make compatibility`, which runs those
tests; a test compares the page's rows with the marks of the tests.

A test says what it shows with `@pytest.mark.shows(section, what, example)`, several times when it shows several things.
"""

import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
# The order of the page, with what is said above each table.
SECTIONS = {
    "Scripts that run unmodified": "",
    "Models without a script": "",
    "Inputs and outputs": "",
    "Documents": "",
    "The local loop": "",
    "Beside a model's own pins": "Environments of these packages and the serving runtime's, in which a replica scores.",
}
PACKAGES = ("numpy", "pandas", "pyarrow", "scikit-learn")
HEAD = """\
# Compatibility

What runs and what is understood, each with the test that shows it with a real replica. `make compatibility` runs these
tests and writes this page; the details are in [scoring](scoring.md).

Last run with Python {python} on {system}, with {packages}{others}.
"""
COLUMNS = "| what | example | shown by test | result |\n|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    """`test` is a node id without its parameters, unless the mark belongs to a parameter."""

    section: str
    what: str
    example: str
    test: str


@dataclass
class Collected:
    """A pytest plugin: what the marks say, and, when the tests are run, what became of them."""

    rows: list[Row] = field(default_factory=list)
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    ran_with: dict[str, str] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in reversed(list(item.iter_markers("shows"))):
                section, what, example = mark.args
                row = Row(section, what, example, _test_of(item, mark))
                if row not in self.rows:
                    self.rows.append(row)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes.setdefault(report.nodeid, []).append(report.outcome)
        for name, value in report.user_properties:
            if name == "ran_with":
                self.ran_with[report.nodeid] = str(value)

    def result(self, row: Row) -> str:
        """`passed` only when every case of the row was run and passed."""
        cases = [node for node in self.outcomes if node == row.test or node.partition("[")[0] == row.test]
        found = [outcome for node in cases for outcome in self.outcomes[node]]
        with_ = sorted({self.ran_with[node] for node in cases if node in self.ran_with}, key=len)
        if not found or set(found) != {"passed"}:
            return "left out"
        times = f"{len(cases)} cases " if len(cases) > 1 else ""
        return f"{times}passed{f', {with_[-1]}' if with_ else ''}"


def _test_of(item: pytest.Item, mark: pytest.Mark) -> str:
    callspec = getattr(item, "callspec", None)
    own = callspec is not None and any(mark is each for each in callspec.marks)
    return item.nodeid if own else item.nodeid.partition("[")[0]


def table(rows: list[Row], results: dict[Row, str]) -> str:
    """The rows of all sections, under their headings."""
    parts = []
    for section, text in SECTIONS.items():
        lines = []
        for row in (row for row in rows if row.section == section):
            test = f"`{row.test.removeprefix('tests/')}`"
            cells = " | ".join(map(_cell, (row.what, row.example, test, results[row])))
            lines.append(f"| {cells} |\n")
        intro = f"{text}\n\n" if text else ""
        parts.append(f"\n## {section}\n\n{intro}{COLUMNS}{''.join(lines)}")
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def rows_of(page: str) -> list[tuple[str, ...]]:
    """Section, what, example and test of each row of a page."""
    found, section = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| ") and not line.startswith("| what"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found.append((section, *cells[:2], f"tests/{cells[2].strip('`')}"))
    return found


def marked_files() -> list[str]:
    """The test files that have marks, so that the others need not be imported."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if "pytest.mark.shows(" in path.read_text()]


def ask_pytest(*options: str) -> tuple[Collected, int]:
    """What it has to say of the marked tests, and its exit code."""
    collected = Collected()
    words = [f"--rootdir={ROOT}", "-q", "-m", "shows", "-p", "no:cacheprovider", *options, *marked_files()]
    return collected, int(pytest.main(words, plugins=[collected]))


def marked_rows() -> list[Row]:
    """Of all marked tests, none of which is run."""
    return ask_pytest("--collect-only", "-qq")[0].rows


def main() -> int:
    os.chdir(ROOT)
    rows = marked_rows()
    ran, code = ask_pytest("-n", os.environ.get("WORKERS", "2"), "--dist", "loadfile")
    results = {row: ran.result(row) for row in rows}
    if code or any(result == "left out" for result in results.values()):
        print("The page is not written: not every test has passed.", file=sys.stderr)
        return code or 1
    PAGE.write_text(_head(any("Python 3." in result for result in results.values())) + table(rows, results))
    return 0


def _head(others: bool) -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return HEAD.format(
        python=platform.python_version(),
        system=platform.system(),
        packages=", ".join(versions),
        others=", unless a row says otherwise" if others else "",
    )


if __name__ == "__main__":
    sys.exit(main())
