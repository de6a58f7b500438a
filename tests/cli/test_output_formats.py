"""Tables, pairs, JSON and YAML; nothing that a record holds reaches the terminal as a control sequence."""

import io
import json

import pytest
import yaml

from argosy.cli.output import Pairs, Table, plain, write
from argosy.cli.progress import PlainReporter, bar
from argosy.cli.service_look import details
from argosy.cli.text import clean, moment, size
from argosy.records import Environment, Service, ServiceSettings

ENVIRONMENT = Environment("ä", "process", "2031-01-02T03:04:05Z")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_piped_table_is_as_wide_as_it_needs() -> None:
    long = "x" * 300
    text = plain(Table(("name", "value"), [("a", long), ("bcd", 1)]))
    assert text == f"NAME  VALUE\na     {long}\nbcd   1"
    assert plain(Table(("name",), [], empty="none yet")) == "none yet"
    assert plain(Table(("name",), [], title="t")) == "t\nNAME"


def test_pairs_leave_out_what_is_empty() -> None:
    assert plain(Pairs((("a", 1), ("longer", None), ("b", ""), ("cc", 0)), title="t")) == "t\na   1\ncc  0"


def test_json_and_yaml_are_the_records() -> None:
    for form, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        out = io.StringIO()
        write(out, form, [ENVIRONMENT], list)
        assert load(out.getvalue()) == [
            {
                "name": "ä",
                "kind": "process",
                "created_at": "2031-01-02T03:04:05Z",
                "services": [],
                "engine": "",
                "is_default": False,
            }
        ]
        assert "ä" in out.getvalue()


def test_a_terminal_gets_the_same_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    write(out, "table", [], lambda: [
        Table(("name", "state"), [("[red]iris[/red]", "healthy")], title="things"), "", Pairs((("a", "b" * 200),)),
        Table(("x",), [], empty="none yet"), "a line",
    ])  # fmt: skip
    for part in ("things", "NAME", "[red]iris[/red]", "healthy", "b" * 200, "none yet", "a line"):
        assert part in out.getvalue()


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\r", "\x9b31m", "\x00", "\u202e", "\n", "\x7f"])
def test_control_sequences_are_shown_not_obeyed(hostile: str) -> None:
    for out in (io.StringIO(), Terminal()):
        write(out, "table", [], lambda: [Table(("a",), [(f"x{hostile}y",)]), Pairs((("k", f"x{hostile}y"),))])
        body = out.getvalue().replace("\x1b[", "") if isinstance(out, Terminal) else out.getvalue()
        assert f"x{hostile}y" not in body
    assert clean("a\tb\n\x1b", lines=True) == "a\tb\n\\x1b"


def test_sizes_and_moments() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_550_000, 10**9, 5 * 10**15)] == [
        "0 B", "999 B", "1.0 kB", "1.6 MB", "1.0 GB", "5000.0 TB",
    ]  # fmt: skip
    assert moment("2031-01-02T03:04:05.678Z") == "2031-01-02 03:04:05"
    assert moment(None) == ""


def test_progress_in_a_pipe_is_lines() -> None:
    err = io.StringIO()
    reporter = PlainReporter(err, "register iris")
    reporter.message("fetching\x1b[2J")
    for done in range(0, 250_000_001, 10_000_000):
        reporter.bytes(done, 250_000_000)
    assert err.getvalue().splitlines() == [
        "register iris: fetching\\x1b[2J", "register iris: 100.0 MB of 250.0 MB", "register iris: 200.0 MB of 250.0 MB",
    ]  # fmt: skip


def test_the_bar_of_a_transfer() -> None:
    assert bar(0, 0).startswith("━" * 24)
    assert bar(5, 10) == "━" * 12 + "─" * 12 + "  50%  5 B of 10 B"


@pytest.mark.parametrize(
    ("ready", "wanted", "said"), [(1, 2, "1 of 2 ready"), (0, 0, "0 of 0 ready"), (1, 0, "0 wanted, 1 still ready")]
)
def test_a_service_that_sleeps_again_has_a_replica_for_a_while(ready: int, wanted: int, said: str) -> None:
    moments = ("2031-01-02T03:04:05Z",) * 2
    service = Service(
        "nap", "local", "healthy", "", "u", "u", "u", "u", wanted, ready, 1, None, ServiceSettings(), *moments, "e"
    )
    assert said in plain(details(service))
