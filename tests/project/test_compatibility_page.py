"""docs/compatibility.md has a row for each mark of a test, and no other; what passed there was run."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

SHOW = (
    "import json, runpy, sys\n"
    "page = runpy.run_path('tools/compatibility_page.py')\n"
    "rows = [[r.section, r.what, r.example, r.test] for r in page['marked_rows']()]\n"
    "print('\\n' + json.dumps(rows))\n"
)


def test_the_rows_are_the_marks_of_the_tests(root: Path) -> None:
    page = runpy.run_path(str(root / "tools" / "compatibility_page.py"))
    done = subprocess.run([sys.executable, "-c", SHOW], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    marked, written = {tuple(row) for row in rows}, page["rows_of"](page["PAGE"].read_text())
    assert {row[0] for row in marked} == set(page["SECTIONS"]), "a section without a test, or a mark without a section"
    assert len(written) == len(set(written))
    assert marked == set(written), "run `make compatibility`"


def test_every_row_has_passed(root: Path) -> None:
    text = (root / "docs" / "compatibility.md").read_text()
    results = [line.rpartition(" | ")[2] for line in text.splitlines() if re.match(r"\| (?!what)", line)]
    assert len(results) > 30
    assert [result for result in results if not re.match(r"(\d+ cases )?passed\b", result)] == []
