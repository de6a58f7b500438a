"""Raw results, what is read off them, and the page."""

from pathlib import Path
from typing import Any

import pytest

from bench import budget_table, hot_path, report
from bench.budget_table import Line
from bench.budgets import many
from bench.cases import CASES
from bench.results import Results, at, middle
from bench.running import Plan
from bench.servers import NAMES, TITLES


def cell(cpu_us: float, per_s: float = 1000) -> dict[str, Any]:
    return {"cpu_us": cpu_us, "per_s": per_s, "p50_ms": 1.0, "p99_ms": 2.0, "outcomes": {"200": 10}}


def visit(cpu_us: float, per_s: float = 1000) -> dict[str, Any]:
    return {"seconds": 2.0, "version": "1", "closed": {count: cell(cpu_us, per_s) for count in ("1", "16", "64")}}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = Results.empty(tmp_path / "results.json")
    found.data["visits"] = {
        "iris/floor/1": visit(100),
        "iris/floor/2": visit(200),
        "iris/floor/3": visit(400),
        "iris/argosy/1": visit(90, 3000),
        "iris/argosy/2": visit(180, 3000),
        "iris/argosy/3": {"seconds": 2.0, "problem": "RuntimeError: it ended"},
        "iris/mlserver/1": visit(500, 1000),
        "iris/mlserver/2": visit(500, 2000),
        "iris/ray/1": {"seconds": 2.0, "problem": "RuntimeError: no | answer"},
    }
    return found


def test_ratios_are_taken_within_a_round(results: Results) -> None:
    cpu = at("closed", "16", "cpu_us")
    assert results.ratio("iris", "argosy", "floor", cpu) == pytest.approx(0.9)
    assert results.median("iris", "floor", cpu) == 200
    assert results.ratio("iris", "bentoml", "floor", cpu) is None


def test_the_best_peer_is_the_best_of_each_round(results: Results) -> None:
    lines = {(line.budget, line.what): line.found for line in budget_table.lines(results)}
    assert lines["B2", "iris, requests/s over the best peer's, 16 connections"] == middle([3.0, 1.5])


def test_a_run_goes_on_where_one_stopped(results: Results) -> None:
    results.save()
    again = Results.load(results.path)
    assert again.data == results.data
    assert again.has("iris/argosy/1", 2.0, "1")
    assert not again.has("iris/argosy/1", 2.0, "2")
    assert not again.has("iris/argosy/1", 5.0, "1")
    assert not again.has("iris/argosy/3", 2.0, "1")
    assert not again.has("iris/argosy/4", 2.0, "1")


def test_what_json_cannot_say_is_null(results: Results) -> None:
    results.data["budgets"] = {"b1": {"p50_ms": float("nan"), "list": [float("inf"), 1.23456789]}}
    results.save()
    assert Results.load(results.path).data["budgets"] == {"b1": {"p50_ms": None, "list": [None, 1.23457]}}


def test_the_raw_results_name_no_place(results: Results) -> None:
    results.data["budgets"] = {"b1": {"problem": f"no {Path.home()}/x and no {Path(__file__).parents[2]}/y"}}
    results.save()
    assert Results.load(results.path).data["budgets"]["b1"]["problem"] == "no ~/x and no ./y"


def test_rounds_visit_everybody_and_begin_with_another_each_time() -> None:
    plan = Plan(["iris", "arrow"], ["floor", "argosy", "ray"], 3, 1.0)
    visits = [(case.name, number, server) for case, number, server in plan.visits()]
    assert len(visits) == len(set(visits)) == 3 * 3 + 3 * 2
    assert {server for case, _, server in visits if case == "arrow"} == {"floor", "argosy"}
    firsts = [next(s for c, n, s in visits if c == "iris" and n == number) for number in (1, 2, 3)]
    assert len(set(firsts)) == 3


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (Line("B", "", 1.0, 1.0), "held"),
        (Line("B", "", 1.5, 1.0), "**not held**, by 50 %"),
        (Line("B", "", 1.5, 2.0, least=True), "**not held**, by 25 %"),
        (Line("B", "", 2.5, 2.0, least=True), "held"),
        (Line("B", "", 3, 0), "**not held**"),
        (Line("B", "", None, 2.0, why="nginx is not installed"), "nginx is not installed"),
    ],
)
def test_a_budget_is_held_or_says_by_how_much_not(line: Line, verdict: str) -> None:
    assert line.cells()[-1] == verdict


def test_every_budget_has_a_line_without_any_result(tmp_path: Path) -> None:
    found = {line.budget for line in budget_table.lines(Results.empty(tmp_path / "none.json"))}
    assert found == {f"B{number}" for number in range(1, 17)} | {"B3a", "many"}


def test_the_page_names_every_server_and_every_reason(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    page = results.path.with_name("benchmarks.md")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "draw", lambda _: None)
    report.render(results)
    text = page.read_text()
    iris = text.split(f"### {CASES['iris'].title.capitalize()}")[1].split("\n## ")[0]
    for name in NAMES:
        assert f"| {TITLES[name]} |" in iris
    assert "no / answer" in iris
    assert "not measured" in iris
    assert "| B1 |" in text


def test_samples_are_counted_by_function() -> None:
    raw = (
        "thread 1;run (app/loop.py:1);handle (argosy_serving/app.py:10);parse (argosy_serving/app.py:20) 6\n"
        "thread 1;run (app/loop.py:2);handle (argosy_serving/app.py:12) 3\n"
        "thread 2;predict (sklearn/linear/base.py:5) 1\n"
    )
    counted = hot_path.count(raw)
    assert counted["samples"] == 10
    assert counted["parts"] == {"argosy_serving/app.py": 0.9, "sklearn": 0.1}
    top = {line["where"]: (line["own"], line["total"]) for line in counted["top"]}
    assert top == {
        "argosy_serving/app.py parse": (0.6, 0.6),
        "argosy_serving/app.py handle": (0.3, 0.9),
        "linear/base.py predict": (0.1, 0.1),
    }
    with pytest.raises(RuntimeError, match="no samples"):
        hot_path.count("")


def test_many_services_say_how_many_they_were(results: Results) -> None:
    seen = {"services": 10, "replicas": 20, "start_ratio": 0.7, "pss_ratio": 4.0}
    results.data["budgets"]["many"] = {"services": seen, "gateway_ratio": 1.5}
    lines = [line.cells() for line in budget_table.lines(results) if line.budget == "many"]
    assert [cells[1].partition(":")[0] for cells in lines[:4]] == ["10 services, 20 replicas"] * 4
    assert [cells[4] for cells in lines[:3]] == ["held", "**not held**, by 33 %", "not measured"]
    assert lines[2][2] == "<= 0.2 %"
    assert lines[-1][3:] == ["1.5", "held"]


def test_fewer_services_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_MANY", raising=False)
    assert many._wanted(1e12) == (100, 2, 100)
    assert many._wanted(6e9) == (30, 2, 60)
    monkeypatch.setenv("BENCH_MANY", "10x2,20")
    assert many._wanted(1e12) == (10, 2, 20)
    monkeypatch.setenv("BENCH_MANY", "10")
    with pytest.raises(RuntimeError, match="write it as"):
        many._wanted(1e12)
