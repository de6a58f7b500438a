"""Replicas as processes: started once, seen as they are, adopted, ended, and nobody else's process ever touched."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from argosy.environments import process as process_module
from argosy.environments.process import ProcessTarget
from argosy.environments.processes import Identity, boot_id, end_session
from argosy.environments.target import Load
from argosy.errors import StorageFailed
from argosy.keys import write_private
from environments.conftest import Machine, lives, wait_for


def log_text(machine: Machine) -> str:
    return "".join(path.read_text() for path in machine.target.log_files("iris"))


def test_one_replica_from_start_to_end(machine: Machine) -> None:
    replica = machine.start()
    seen = machine.until(replica, "ready")
    assert replica.startswith("iris-1-")
    assert (seen.service, seen.revision, seen.failure) == ("iris", 1, None)
    assert seen.address == f"unix@{machine.folder(replica) / 'sock'}"
    assert seen.pid is not None and lives(seen.pid)
    assert machine.target.services() == {"iris"}
    assert machine.folder(replica).stat().st_mode & 0o077 == 0
    machine.target.drain(replica, 30)
    gone = machine.until(replica, "gone")
    assert (gone.failure, gone.deterministic) == (None, False)
    machine.target.forget(replica)
    assert machine.target.observe("iris") == []
    assert machine.target.services() == set()
    assert not machine.folder(replica).exists()
    assert not (machine.home.services / "iris" / "scratch" / replica).exists()
    assert "ends" in log_text(machine), "its log stays"
    machine.target.remove_service("iris")
    assert machine.target.log_files("iris") == []
    assert not (machine.home.services / "iris").exists()


def test_the_environment_is_built_from_scratch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_MASTER_KEY", "not for replicas")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "neither")
    monkeypatch.setenv("TZ", "UTC")
    machine.until(machine.start(variables={"MINE": "1", "OMP_NUM_THREADS": "3", "PYTHONPATH": "/mine"}), "ready")
    line = next(line for line in log_text(machine).splitlines() if line.startswith("starts "))
    told = json.loads(line.removeprefix("starts "))
    assert not {"ARGOSY_MASTER_KEY", "AWS_SECRET_ACCESS_KEY", "ARGOSY_HOME"} & set(told)
    assert (told["MINE"], told["OMP_NUM_THREADS"], told["OPENBLAS_NUM_THREADS"], told["TZ"]) == ("1", "3", "1", "UTC")
    assert told["PYTHONPATH"] == str(machine.launch().runtime_folder)
    assert told["AZUREML_MODEL_DIR"] == f"{told['ARGOSY_MODEL_DIR']}/iris/1"


def test_a_new_control_plane_adopts_what_runs(machine: Machine) -> None:
    replica = machine.start()
    before = machine.until(replica, "ready")
    target = machine.another_control_plane()
    assert target.services() == {"iris"}
    assert target.observe("iris") == [before]
    assert target.ended() == set()
    target.drain(replica, 30)
    machine.until(replica, "gone")
    assert target.ended() == set(), "that is known already"
    target.forget(replica)
    assert list((machine.home.run / "r").iterdir()) == []


def test_an_orphan_between_spawn_and_note_is_found(machine: Machine) -> None:
    replica = machine.start()
    pid = machine.until(replica, "ready").pid
    (machine.folder(replica) / "process.json").unlink()
    target = machine.another_control_plane()
    assert [(s.id, s.state, s.pid) for s in target.observe("iris")] == [(replica, "ready", pid)]
    target.drain(replica, 30)
    machine.until(replica, "gone")


def test_an_orphan_that_has_no_lock_yet_is_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = machine.start()
    machine.until(replica, "ready")
    folder = machine.folder(replica)
    machine.target.kill(replica)
    machine.until(replica, "gone")
    for name in ("process.json", "lock", "ready"):
        (folder / name).unlink()
    machine.another_control_plane()
    assert machine.one(replica).state == "starting"
    monkeypatch.setattr(process_module, "_START_GRACE_S", 0.0)
    gone = machine.one(replica)
    assert (gone.state, gone.failure) == ("gone", None)


def test_a_folder_without_a_whole_specification_is_removed(machine: Machine) -> None:
    for name, content in {"a": None, "b": "{", "c": "[]", "d": "{}", "e": '{"id": 1}', "f": "[" * 100_000}.items():
        folder = machine.home.run / "r" / name
        folder.mkdir()
        if content is not None:
            (folder / "spec.json").write_text(content)
    (machine.home.run / "r" / "stray").write_text("a file")
    target = machine.another_control_plane()
    assert target.services() == set()
    assert [path.name for path in (machine.home.run / "r").iterdir()] == ["stray"]


def test_a_replica_that_is_too_busy_to_answer_stays_ready_over_a_restart(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = machine.start()
    pid = machine.until(replica, "ready").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    machine.another_control_plane()
    assert machine.one(replica).state == "ready"
    os.kill(pid, signal.SIGCONT)


def test_killed_it_is_gone_with_a_reason(machine: Machine) -> None:
    replica = machine.start()
    pid = machine.until(replica, "ready").pid
    assert pid is not None and machine.target.ended() == set()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: machine.target.ended() == {"iris"}, "the watch sees it")
    gone = machine.one(replica)
    assert (gone.state, gone.deterministic) == ("gone", False)
    assert "SIGKILL" in str(gone.failure) and "memory" in str(gone.failure)


def test_an_adopted_one_that_is_killed_is_gone(machine: Machine) -> None:
    replica = machine.start()
    pid = machine.until(replica, "ready").pid
    assert pid is not None
    former = machine.target
    machine.another_control_plane()
    assert machine.one(replica).state == "ready"
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not lives(pid))
    # Still a zombie, since the process that started it has not asked for it.
    assert machine.one(replica).state == "gone"
    wait_for(lambda: former.observe("iris")[0].state == "gone")


@pytest.mark.parametrize(
    ("fake", "reason", "deterministic"),
    [("broken", "init() raised", True), ("exits", "exit code 7", False), ("garbled", "exit code 3", False)],
)
def test_ends_by_itself(machine: Machine, fake: str, reason: str, deterministic: bool) -> None:
    gone = machine.until(machine.start(fake), "gone")
    assert reason in str(gone.failure)
    assert gone.deterministic is deterministic


def test_a_signal_without_a_name_is_told_by_its_number(machine: Machine) -> None:
    replica = machine.start()
    pid = machine.until(replica, "ready").pid
    assert pid is not None
    os.kill(pid, 40)
    assert "signal 40" in str(machine.until(replica, "gone").failure)


def test_one_that_never_starts_is_ended_with_a_reason(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_STARTUP_MARGIN_S", 0.0)
    replica = machine.start("hangs deaf", init_timeout_s=0.3)
    gone = machine.until(replica, "gone")
    assert "not ready 0.3 s" in str(gone.failure)
    assert gone.deterministic, "another try would take as long"


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_is_set_ends_no_start(machine: Machine, monkeypatch: pytest.MonkeyPatch, jump_s: int) -> None:
    replica = machine.start("hangs deaf", init_timeout_s=60)
    assert machine.one(replica).state == "starting"
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    for _ in range(5):
        assert machine.one(replica).state == "starting"
        time.sleep(0.1)


def test_one_that_does_not_drain_is_killed(machine: Machine) -> None:
    replica = machine.start("deaf")
    machine.until(replica, "ready")
    machine.target.drain(replica, 0.2)
    assert machine.one(replica).state == "draining"
    gone = machine.until(replica, "gone")
    assert gone.failure is None


@pytest.mark.parametrize("fake", ["lies", "babbles"])
def test_nonsense_on_the_admin_socket_ends_nothing(machine: Machine, fake: str) -> None:
    replica = machine.start(fake)
    time.sleep(0.3)
    for _ in range(3):
        seen = machine.one(replica)
        assert (seen.in_flight, seen.generation) == (0, 0)
    machine.another_control_plane()
    assert machine.one(replica).state in ("ready", "starting")


def test_settings_reach_what_runs_and_what_starts(machine: Machine) -> None:
    machine.target.apply_settings("iris", {"generation": 3, "keys": ["secret"]})
    file = machine.home.services / "iris" / "settings.json"
    assert file.stat().st_mode & 0o077 == 0
    replica = machine.start()
    machine.until(replica, "ready")
    assert machine.one(replica).generation == 3
    machine.target.apply_settings("iris", {"generation": 4, "keys": []})
    assert machine.one(replica).generation == 4


def test_settings_that_stand_there_already_need_no_room(machine: Machine) -> None:
    machine.target.apply_settings("iris", {"generation": 3})
    folder = machine.home.services / "iris"
    before = (folder / "settings.json").stat().st_ino
    machine.target.apply_settings("iris", {"generation": 3})
    assert (folder / "settings.json").stat().st_ino == before
    machine.target.remove_service("iris")
    folder.write_text("in the way")
    with pytest.raises(StorageFailed, match=r"settings\.json"):
        machine.target.apply_settings("iris", {"generation": 4})


def test_helpers_of_user_code_end_with_the_replica(machine: Machine) -> None:
    replica = machine.start("helper")
    pid = machine.until(replica, "ready").pid
    assert pid is not None
    helper = int((machine.home.services / "iris" / "scratch" / replica / "helper").read_text())
    os.kill(pid, signal.SIGKILL)
    machine.until(replica, "gone")
    machine.target.forget(replica)
    wait_for(lambda: not lives(helper))


def test_helpers_are_found_after_a_time_without_control_plane(machine: Machine) -> None:
    replica = machine.start("helper forks")
    pid = machine.until(replica, "ready").pid
    assert pid is not None
    helper = int((machine.home.services / "iris" / "scratch" / replica / "helper").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not lives(pid))
    machine.target.observe("iris")
    machine.another_control_plane()
    assert machine.one(replica).state == "gone", "though a fork still holds its lock"
    machine.target.forget(replica)
    wait_for(lambda: not lives(helper))


def note(machine: Machine, replica: str, **changes: Any) -> None:
    file = machine.folder(replica) / "process.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("changes", [{"boot": "another"}, {"started": 1.0}], ids=["after a reboot", "number reused"])
def test_a_stranger_with_the_same_number_is_left_alone(machine: Machine, changes: dict[str, Any]) -> None:
    """The number in the note leads a session of somebody else now."""
    replica = machine.start()
    machine.until(replica, "ready")
    machine.target.kill(replica)
    machine.until(replica, "gone")
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import subprocess; subprocess.Popen(['sleep', '300']).wait()"], start_new_session=True
    )
    own: Identity | None = Identity.of(stranger.pid)
    assert own is not None
    wait_for(lambda: psutil.Process(stranger.pid).children())
    child = psutil.Process(stranger.pid).children()[0]
    note(machine, replica, **{"pid": stranger.pid, "started": own.started, **changes})
    machine.another_control_plane()
    assert machine.one(replica).state == "gone"
    machine.target.kill(replica)
    machine.target.drain(replica, 0)
    machine.target.forget(replica)
    time.sleep(0.1)
    assert lives(stranger.pid) and lives(child.pid)
    child.kill()
    stranger.wait()


def test_end_session_by_mark_spares_those_without_it() -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '300']); subprocess.Popen(['sleep', '300'], env={}).wait()"
    leader = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, env={**os.environ, "MARK": "me"})
    wait_for(lambda: len(psutil.Process(leader.pid).children()) == 2)
    wait_for(lambda: all(c.name() == "sleep" for c in psutil.Process(leader.pid).children()))
    marked, bare = sorted(psutil.Process(leader.pid).children(), key=lambda c: "MARK" not in c.environ())
    identity = Identity.of(leader.pid)
    assert identity is not None
    end_session(identity, "MARK=other")
    assert lives(marked.pid) and lives(bare.pid)
    end_session(identity, "MARK=me")
    wait_for(lambda: not lives(marked.pid))
    assert lives(bare.pid)
    end_session(Identity(leader.pid, identity.started, "another boot"))
    assert lives(bare.pid)
    end_session(identity)
    wait_for(lambda: not lives(bare.pid))
    leader.wait()


def test_identity_tells_a_zombie_from_the_living() -> None:
    child = subprocess.Popen(["sleep", "300"])
    identity = Identity.of(child.pid)
    assert identity is not None and identity.alive and identity.boot == boot_id()
    identity.terminate()
    wait_for(lambda: not identity.alive)
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert Identity.of(child.pid) is None
    child.wait()
    identity.kill()
    identity.terminate()


def test_a_start_that_fails_leaves_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    spawned: list[subprocess.Popen[bytes]] = []
    real_popen, real_write = subprocess.Popen, write_private

    def popen(*arguments: Any, **options: Any) -> Any:
        spawned.append(real_popen(*arguments, **options))
        return spawned[-1]

    def full(path: Path, content: bytes) -> None:
        if path.name == "process.json":
            raise OSError(28, "No space left on device", str(path))
        real_write(path, content)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(process_module, "write_private", full)
    with pytest.raises(StorageFailed, match="No space left"):
        machine.target.start(machine.launch())
    assert len(spawned) == 1 and not lives(spawned[0].pid), "no replica that nobody knows of"
    assert list((machine.home.run / "r").iterdir()) == []
    assert machine.target.observe("iris") == []


@pytest.mark.parametrize("changes", [{"python": Path("/no/such/python")}, {"variables": {"A": "\0"}}])
def test_what_cannot_be_started_is_told(machine: Machine, changes: dict[str, Any]) -> None:
    with pytest.raises(StorageFailed, match="could not be started"):
        machine.target.start(machine.launch(**changes))
    assert list((machine.home.run / "r").iterdir()) == []


@pytest.mark.parametrize("service", ["iris", "my.logger"])
def test_old_logs_are_pruned_and_living_ones_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setattr(process_module, "_KEEP_LOGS", 2)
    living = machine.start(service=service)
    folder = machine.home.logs / "services" / service
    for number in range(5):
        path = folder / f"{service}-1-old{number}.log"
        path.write_text("old")
        os.utime(path, (number, number))
    ended = machine.start(service=service)
    machine.target.kill(ended)
    wait_for(lambda: machine.one(ended, service).state == "gone")
    machine.target.forget(ended)
    assert {path.name for path in folder.iterdir()} == {
        f"{living}.log", f"{ended}.log", f"{service}-1-old4.log",
    }  # fmt: skip


def test_calls_for_unknown_replicas_do_nothing(machine: Machine) -> None:
    for call in (machine.target.kill, machine.target.forget):
        call("iris-1-nobody")
    machine.target.drain("iris-1-nobody", 1)
    assert machine.target.observe("nobody") == []
    assert machine.target.log_files("nobody") == []


def test_two_targets_do_not_double(machine: Machine) -> None:
    machine.until(machine.start(), "ready")
    assert isinstance(machine.target, ProcessTarget)
    assert len(machine.another_control_plane().observe("iris")) == 1


def test_the_load_of_ready_replicas(machine: Machine) -> None:
    replica = machine.start()
    machine.until(replica, "ready")
    assert machine.target.load("iris") == [Load(replica, busy=2, queued=1, refused=7, run_s=0.25)]
    lying = machine.start("lies")
    machine.until(lying, "ready")
    assert Load(lying, busy=0, queued=0, refused=7, run_s=0.25) in machine.target.load("iris")
    pid = machine.one(replica).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert Load(replica, silent=True) in machine.target.load("iris"), "it does not answer: it may be busy"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert machine.target.load("other") == []
