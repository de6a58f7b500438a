"""Durable operations: resumed at the step that was not finished, busy subjects, repeated requests, every way to end."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import Conflict, DeployFailed, InvalidOption, NotFound, StorageFailed
from argosy.records import Operation
from argosy.server.operations import Cancelled, Interrupted, Job, OperationRunner, Step
from argosy.store.db import Database
from argosy.store.tables import operations

Kinds = Mapping[str, Sequence[Step]]


class Power(BaseException):
    """Ends a step as a power cut does: nothing after it runs, nothing is stored."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "argosy.db")
    yield opened
    opened.close()


Runner = Callable[..., OperationRunner]


@pytest.fixture
def runner(database: Database) -> Iterator[Runner]:
    runners: list[OperationRunner] = []

    def make(kinds: Kinds, workers: int = 4) -> OperationRunner:
        runners.append(OperationRunner(database, kinds, workers))
        return runners[-1]

    yield make
    for one in runners:
        one.stop()


def ended(runner: OperationRunner, operation: Operation) -> Operation:
    deadline = time.monotonic() + 30
    while not (found := runner.get(operation.id)).done:
        assert time.monotonic() < deadline, found
        time.sleep(0.005)
    return found


def one_step(work: Callable[[Job], Mapping[str, Any] | None], **options: Any) -> Kinds:
    return {"work": [Step("only", work, **options)]}


def until(go_on: threading.Event) -> Callable[[Job], None]:
    def work(job: Job) -> None:
        assert go_on.wait(30)

    return work


def test_steps_follow_each_other_and_hand_on_what_they_made(runner: Runner) -> None:
    def first(job: Job) -> dict[str, Any]:
        job.say("one", 0.25)
        return {"a": job.input["x"]}

    def second(job: Job) -> dict[str, Any]:
        job.say("two", 0.5)
        return {"b": job.made["a"] + 1}

    runs = runner({"work": [Step("first", first), Step("second", second), Step("third", lambda job: None)]})
    begun = runs.submit("work", "service/iris", {"x": 1})
    assert (begun.kind, begun.subject) == ("work", "service/iris")
    done = ended(runs, begun)
    assert (done.state, done.result, done.messages, done.progress, done.error) == (
        "succeeded", {"a": 1, "b": 2}, ["one", "two"], 1.0, None,
    )  # fmt: skip


@pytest.mark.parametrize("cut_in", ["first", "second", "third"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_resumed_at_the_step_that_was_cut_off(runner: Runner, cut_in: str, moment: str) -> None:
    ran: list[str] = []

    def step(name: str, cut: bool) -> Step:
        def work(job: Job) -> dict[str, Any]:
            if cut and moment == "before":
                raise Power
            ran.append(name)
            if cut:
                raise Power
            return {name: len(job.made)}

        return Step(name, work)

    names = ("first", "second", "third")
    before = runner({"work": [step(name, name == cut_in) for name in names]})
    begun = before.submit("work", "service/iris", {})
    deadline = time.monotonic() + 30
    while before.get(begun.id).step != cut_in:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.05)
    before.stop()
    assert before.get(begun.id).state == "running"
    after = runner({"work": [step(name, False) for name in names]})
    assert after.resume() == 1
    assert ended(after, begun).result == {"first": 0, "second": 1, "third": 2}
    twice = {cut_in} if moment == "after" else set()
    assert {name: ran.count(name) for name in names} == {name: 1 + (name in twice) for name in names}
    assert after.resume() == 0


def test_what_a_step_keeps_is_there_when_it_runs_again_and_hidden(runner: Runner) -> None:
    seen: list[dict[str, Any]] = []

    def work(job: Job) -> dict[str, Any]:
        seen.append(dict(job.made))
        job.keep(_before=7)
        if len(seen) == 1:
            raise Power
        return {"service": "iris"}

    first = runner(one_step(work))
    begun = first.submit("work", "service/iris", {})
    while len(seen) < 1 or first.get(begun.id).state != "running":
        time.sleep(0.005)
    time.sleep(0.05)
    second = runner(one_step(work))
    second.resume()
    assert ended(second, begun).result == {"service": "iris"}
    assert seen == [{}, {"_before": 7}]


@pytest.mark.parametrize(
    ("problem", "state", "code", "status"),
    [
        (DeployFailed("no", ["last line"]), "failed", "deploy_failed", 500),
        (InvalidOption("--x", 1, "no"), "failed", "invalid_option", 400),
        (Cancelled("gone"), "cancelled", "cancelled", None),
        (RuntimeError("surprise"), "failed", "system_failure", 500),
    ],
)
def test_every_way_to_fail(
    runner: Runner, caplog: pytest.LogCaptureFixture, problem: Exception, state: str, code: str, status: int | None
) -> None:
    def work(job: Job) -> None:
        raise problem

    with caplog.at_level(logging.ERROR):
        runs = runner(one_step(work))
        done = ended(runs, runs.submit("work", "service/iris", {}))
    assert done.error is not None
    assert (done.state, done.error["code"], done.error.get("status")) == (state, code, status)
    assert ("Traceback" in caplog.text) == isinstance(problem, RuntimeError)
    if isinstance(problem, RuntimeError):
        assert "surprise" in done.error["message"]
    assert runs.submit("work", "service/iris", {}), "the subject is free again"


def test_a_busy_subject(runner: Runner) -> None:
    go_on = threading.Event()
    runs = runner(one_step(until(go_on)))
    first = runs.submit("work", "service/iris", {})
    with pytest.raises(Conflict, match=first.id) as refused:
        runs.submit("work", "service/iris", {})
    assert refused.value.details == {"operation": first.id}
    assert "works on service iris." in refused.value.message
    part = runs.submit("work", "service/as/tuning", {})
    with pytest.raises(Conflict, match="works on the tuning of service as\\."):
        runs.submit("work", "service/as/tuning", {})
    other = runs.submit("work", "service/other", {})
    above = runs.submit("work", "service/iris", {}, supersedes=True)
    go_on.set()
    assert [ended(runs, one).state for one in (first, part, other, above)] == ["succeeded"] * 4


def test_a_repeated_request(runner: Runner) -> None:
    runs = runner({**one_step(lambda job: None), "other": []})
    first = runs.submit("work", "service/iris", {"x": 1}, "key")
    ended(runs, first)
    assert runs.submit("work", "service/iris", {"x": 1}, "key").id == first.id
    repeated = runs.repeated("work", "service/iris", "key")
    assert repeated is not None and repeated.id == first.id
    assert runs.repeated("work", "service/iris", "unused") is None
    assert runs.repeated("work", "service/iris", None) is None
    for kind, subject in (("other", "service/iris"), ("work", "service/other")):
        with pytest.raises(Conflict, match="another request"):
            runs.submit(kind, subject, {}, "key")
        with pytest.raises(Conflict, match="another request"):
            runs.repeated(kind, subject, "key")
    assert runs.submit("work", "service/iris", {}).id != first.id


def test_a_repeated_request_while_the_first_one_runs(runner: Runner) -> None:
    go_on = threading.Event()
    runs = runner(one_step(until(go_on)))
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(runs.submit("work", "service/iris", {}, "key").id)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    go_on.set()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_hung_rollouts_hold_up_nobody(runner: Runner) -> None:
    go_on = threading.Event()

    def watch(job: Job) -> None:
        while not go_on.wait(0.01):
            if job.stopping:
                raise Interrupted

    runs = runner({"watch": [Step("watch", watch, waits=True)], **one_step(lambda job: None)}, workers=1)
    watching = [runs.submit("watch", f"service/{number}", {}) for number in range(10)]
    assert ended(runs, runs.submit("work", "service/iris", {})).state == "succeeded"
    go_on.set()
    assert {ended(runs, one).state for one in watching} == {"succeeded"}


def test_only_so_many_work_at_once(runner: Runner) -> None:
    now, most, guard = 0, 0, threading.Lock()

    def work(job: Job) -> None:
        nonlocal now, most
        with guard:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.02)
        with guard:
            now -= 1

    runs = runner(one_step(work), workers=2)
    begun = [runs.submit("work", f"service/{number}", {}) for number in range(8)]
    assert {ended(runs, one).state for one in begun} == {"succeeded"}
    assert most == 2


def test_stopping_interrupts_and_the_next_one_goes_on(runner: Runner) -> None:
    saying = threading.Event()

    def work(job: Job) -> dict[str, Any]:
        while True:
            job.say("still at it")
            saying.set()
            time.sleep(0.005)

    first = runner(one_step(work))
    begun = first.submit("work", "service/iris", {})
    assert saying.wait(30)
    first.stop()
    late = first.submit("work", "service/late", {})
    assert late.state == "pending", "kept for the next control plane"
    deadline = time.monotonic() + 30
    while any(thread.name.startswith("operation") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert first.get(begun.id).state == "running"
    second = runner(one_step(lambda job: {"done": True}))
    assert second.resume() == 2
    assert ended(second, begun).result == ended(second, late).result == {"done": True}


def test_an_operation_of_another_version_does_not_stay_for_ever(runner: Runner) -> None:
    old = runner({"ancient": [Step("only", lambda job: None)]})
    begun = old.submit("ancient", "service/iris", {})
    ended(old, begun)
    with old._database.write() as connection:
        connection.execute(operations.update().values(state="running"))
    new = runner(one_step(lambda job: None))
    assert new.resume() == 1
    done = ended(new, begun)
    assert done.error is not None
    assert (done.state, "ancient" in done.error["message"]) == ("failed", True)


def test_the_end_is_stored_when_there_is_room_again(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argosy.server.operations._RETRY_S", 0.01)
    refused: list[str] = []
    real = OperationRunner.store

    def full(self: OperationRunner, operation_id: str, **values: Any) -> None:
        if values.get("state") in ("failed", "succeeded") and len(refused) < 5:
            refused.append(values["state"])
            raise StorageFailed("The disk is full.")
        real(self, operation_id, **values)

    monkeypatch.setattr(OperationRunner, "store", full)
    runs = runner(one_step(lambda job: None))
    done = ended(runs, runs.submit("work", "service/iris", {}))
    assert refused == ["succeeded"] * 5
    assert done.state == "succeeded", "it was done, and no full disk makes that untrue"


def test_messages_are_bounded(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argosy.server.operations._MOST_MESSAGES", 5)

    def work(job: Job) -> None:
        for number in range(9):
            job.say(str(number))

    runs = runner(one_step(work))
    assert ended(runs, runs.submit("work", "service/iris", {})).messages == ["4", "5", "6", "7", "8"]


def test_pages_miss_nothing_that_began_in_the_same_moment(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argosy.server.operations.utc_now", lambda: "2026-01-01T00:00:00.000Z")
    runs = runner(one_step(lambda job: None))
    begun = {runs.submit("work", f"service/{number}", {}).id for number in range(7)}
    found: list[str] = []
    cursor = None
    for _ in range(10):
        page = runs.page(3, cursor, None, None)
        found += [operation.id for operation in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert len(found) == 7
    assert set(found) == begun


def test_filters(runner: Runner) -> None:
    runs = runner(one_step(lambda job: None))
    first, second = (ended(runs, runs.submit("work", f"service/{name}", {})) for name in ("a", "b"))
    assert [o.id for o in runs.page(10, None, "service/a", None).items] == [first.id]
    assert [o.id for o in runs.page(10, None, None, "succeeded").items] == [second.id, first.id]
    assert runs.page(10, None, None, "failed").items == []
    with pytest.raises(NotFound):
        runs.get("nothing")
    with pytest.raises(InvalidOption):
        runs.page(10, "nonsense", None, None)


def test_old_operations_are_forgotten_once_they_are_done(runner: Runner) -> None:
    go_on = threading.Event()
    runs = runner({"work": [Step("only", lambda job: None)], "wait": [Step("only", until(go_on))]})
    done, running = ended(runs, runs.submit("work", "a", {})), runs.submit("wait", "b", {})
    assert runs.forget_finished(done.updated_at) == 0
    assert runs.forget_finished("9999") == 1
    go_on.set()
    assert ended(runs, running).state == "succeeded"
    with pytest.raises(NotFound):
        runs.get(done.id)


def test_blobs_that_operations_under_way_name(runner: Runner) -> None:
    asked, made, go_on = "a" * 64, "b" * 64, threading.Event()

    def work(job: Job) -> None:
        job.keep(_file={"sha256": made})
        assert go_on.wait(30)

    runs = runner(one_step(work))
    begun = runs.submit("work", "model/iris", {"files": [{"sha256": asked}], "other": "c" * 65})
    deadline = time.monotonic() + 30
    while runs.mentioned_blobs() != {asked, made}:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    go_on.set()
    ended(runs, begun)
    assert runs.mentioned_blobs() == set()
