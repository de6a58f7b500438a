"""Replicas as containers: what lives is known without the engine, nothing is started twice, and nothing is left."""

import logging
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from argosy.environments.container.images import EngineImages
from argosy.environments.container.replica import shown
from argosy.environments.container.target import ContainerTarget
from argosy.environments.target import Container, Launch, Observed
from argosy.errors import EngineFailed, EngineUnreachable, StorageFailed
from argosy.images.oci.layout import CONFIG, MANIFEST, Descriptor, OciLayout
from argosy.services.logs import tail
from argosy.settings import Home
from environments.conftest import wait_for
from environments.fake_engine import URL, FakeEngine, FakeEngines
from environments.fake_serving import SOURCE


@dataclass
class Harbour:
    """A home with an engine, and targets as successive control planes see it."""

    home: Home
    engine: FakeEngine
    layout: OciLayout
    image: str

    def __post_init__(self) -> None:
        self.another_control_plane()

    def another_control_plane(self) -> ContainerTarget:
        self.engines = FakeEngines(self.engine)
        self.images = EngineImages(self.layout, lambda: [self.image])
        self.engines.stop()  # sweeps are asked for by hand
        self.target = ContainerTarget(self.home, self.engines, self.images, 1_000_000)
        return self.target

    def start(self, fake: str = "", memory_bytes: int | None = None, **variables: str) -> str:
        container = Container("box", URL, self.image, "iris:1", memory_bytes)
        self.target.apply_settings("iris", {"generation": 1})
        return self.target.start(
            Launch(
                "iris",
                1,
                Path("/i"),
                Path("/p"),
                Path("/r"),
                [("iris", 1)],
                variables={"FAKE": fake, **variables},
                container=container,
            )
        )

    def one(self, replica: str) -> Observed:
        return next(seen for seen in self.target.observe("iris") if seen.id == replica)

    def until(self, replica: str, state: str) -> Observed:
        wait_for(lambda: self.one(replica).state == state, f"{replica} {state}")
        return self.one(replica)

    def own(self, replica: str) -> Path:
        return self.home.run / "c" / replica.rpartition("-")[2]

    def sweep(self) -> None:
        self.target._sweep(URL)


@pytest.fixture
def harbour() -> Iterator[Harbour]:
    path = Path(tempfile.mkdtemp(prefix="argosy-c-"))  # short, since sockets lie in it
    home = Home(path)
    home.prepare()
    runtime = path / "runtime"
    (runtime / "argosy_serving").mkdir(parents=True)
    (runtime / "argosy_serving" / "__init__.py").write_text("")
    (runtime / "argosy_serving" / "__main__.py").write_text(SOURCE)
    layout = OciLayout(home.oci)
    config = Descriptor(CONFIG, *layout.add_json({}))
    image, _ = layout.add_json({"mediaType": MANIFEST, "config": config.json(), "layers": []})
    harbour = Harbour(home, FakeEngine(runtime), layout, image)
    yield harbour
    harbour.engine.dead = False
    for name in list(harbour.engine.containers):
        harbour.engine.remove(name)
    shutil.rmtree(path, ignore_errors=True)


def test_one_replica_from_start_to_end(harbour: Harbour) -> None:
    replica = harbour.start()
    seen = harbour.until(replica, "ready")
    assert (seen.service, seen.revision, seen.failure, seen.pid, seen.generation) == ("iris", 1, None, None, 1)
    folder = harbour.home.run / "c" / replica.rpartition("-")[2]
    assert seen.address == f"unix@{folder}/m/sock"
    assert folder.stat().st_mode & 0o077 == 0, "others cannot reach what is open to everybody in it"
    assert harbour.target.services() == {"iris"} and harbour.target.ended() == set()
    harbour.target.apply_settings("iris", {"generation": 5})
    assert harbour.one(replica).generation == 5
    harbour.target.drain(replica, 30)
    assert harbour.until(replica, "gone").failure is None
    harbour.target.forget(replica)
    assert harbour.target.observe("iris") == [] and not folder.exists() and harbour.engine.containers == {}
    harbour.target.remove_service("iris")
    assert not (harbour.home.logs / "services" / "iris").exists()


def test_what_a_container_is_started_with(harbour: Harbour) -> None:
    replica = harbour.start(memory_bytes=1 << 28, MINE="1", PYTHONPATH="/mine", OMP_NUM_THREADS="3")
    order = harbour.engine.containers[f"argosy-{replica}"].order
    assert order.image == harbour.images.tag(harbour.image) and (order.user, order.port) == ("65532:65532", 5001)
    assert (order.variables["MINE"], order.variables["OMP_NUM_THREADS"], order.memory_bytes) == ("1", "3", 1 << 28)
    assert "PYTHONPATH" not in order.variables, "the image could not start with another"
    assert order.labels == {
        "io.argosy.home": str(harbour.home.path),
        "io.argosy.environment": "box",
        "io.argosy.service": "iris",
        "io.argosy.revision": "1",
        "io.argosy.replica": replica,
    }


def test_a_new_control_plane_adopts_what_runs_and_the_engine_need_not_answer(harbour: Harbour) -> None:
    replica = harbour.start()
    before = harbour.until(replica, "ready")
    harbour.engine.dead = True
    target = harbour.another_control_plane()
    assert target.services() == {"iris"} and target.observe("iris") == [before] and target.ended() == set()


def test_a_control_plane_that_dies_over_a_start_leaves_nothing(harbour: Harbour) -> None:
    """The folder is written, the container is not; or it is, and nobody has seen it yet."""
    made = harbour.start()
    never = harbour.start()
    harbour.engine.remove(f"argosy-{never}")
    target = harbour.another_control_plane()
    wait_for(lambda: harbour.one(never).state == "gone")
    assert harbour.one(never).failure is None, "nobody is to blame"
    target.forget(never)
    harbour.until(made, "ready")
    assert [seen.id for seen in target.observe("iris")] == [made]


def test_a_dead_engine_makes_nothing_gone_and_starts_nothing(harbour: Harbour) -> None:
    replica = harbour.start()
    harbour.until(replica, "ready")
    hanging = harbour.start("hangs")
    harbour.engine.dead = True
    with pytest.raises(EngineUnreachable, match="Start it again"):
        harbour.start()
    assert "does not answer" in harbour.target.trouble("iris")
    assert [seen.state for seen in harbour.target.observe("iris")] == ["ready", "starting"]
    assert hanging in {seen.id for seen in harbour.target.observe("iris")}
    assert len(harbour.engine.containers) == 2


def test_one_that_ends_while_the_engine_is_dead_is_gone_and_its_container_follows(harbour: Harbour) -> None:
    replica = harbour.start()
    harbour.until(replica, "ready")
    harbour.engine.dead = True
    harbour.engine.containers[f"argosy-{replica}"].process.kill()
    seen = harbour.until(replica, "gone")
    assert seen.failure is None and "does not tell why" in seen.reason, "it is the engine's failure"
    harbour.target.forget(replica)
    assert harbour.target.observe("iris") == []
    harbour.engine.dead = False
    harbour.another_control_plane()
    assert harbour.target.observe("iris") == [], "what is forgotten stays so"
    harbour.sweep()
    assert harbour.engine.containers == {} and list((harbour.home.run / "c").iterdir()) == []


def test_containers_that_nobody_knows_are_swept_and_those_of_others_are_not(harbour: Harbour) -> None:
    kept, lost, other = (harbour.start() for _ in range(3))
    for replica in (kept, lost, other):
        harbour.until(replica, "ready")
    for replica in (lost, other):
        shutil.rmtree(harbour.home.run / "c" / replica.rpartition("-")[2])
    harbour.engine.relabel(f"argosy-{other}", "/another/home")
    harbour.another_control_plane()
    harbour.sweep()
    assert set(harbour.engine.containers) == {f"argosy-{kept}", f"argosy-{other}"}


def test_images_that_were_deleted_leave_the_engine(harbour: Harbour) -> None:
    others = "localhost/argosy-of-another-home:1"
    harbour.until(harbour.start(), "ready")
    harbour.engine.images |= {harbour.images.tag("sha256:gone"), others}
    harbour.sweep()
    assert harbour.engine.images == {harbour.images.tag(harbour.image), others}


def test_why_it_ended(harbour: Harbour) -> None:
    """Each as what it is: out of memory, told by itself, by its code, removed."""
    exhausted, killed, exits, removed = harbour.start(memory_bytes=1 << 28), *(harbour.start() for _ in range(3))
    broken = harbour.start("broken")
    for replica in (exhausted, killed, exits, removed):
        harbour.until(replica, "ready")
    harbour.engine.exhaust(f"argosy-{exhausted}")
    harbour.engine.containers[f"argosy-{killed}"].process.kill()
    harbour.engine.containers[f"argosy-{exits}"].process.send_signal(11)
    harbour.engine.remove(f"argosy-{removed}")
    seen = {replica: harbour.until(replica, "gone") for replica in (exhausted, killed, exits, removed, broken)}
    assert "more than its limit of 256M)" in (seen[exhausted].failure or "")
    assert "--memory" in (seen[exhausted].failure or "") and not seen[exhausted].deterministic
    assert "SIGKILL" in (seen[killed].failure or "") and "memory" in (seen[killed].failure or "")
    assert "SIGSEGV" in (seen[exits].failure or "")
    assert "removed by somebody else" in (seen[removed].failure or "")
    logged = tail(harbour.target.log_files("iris"), 100)
    assert any("more than its limit" in line and exhausted in line for line in logged), "its own last line"
    ends = {path.stem for path in harbour.target.log_files("iris") if path.suffix == ".end"}
    logs = harbour.home.logs / "services" / "iris"
    assert {path.stem for path in logs.glob("*.end")} == ends >= {exhausted, killed}, "in no folder of a container's"
    assert (seen[broken].failure, seen[broken].deterministic) == ("init() raised", True)


def test_an_engine_that_does_not_notice_is_taken_for_it(harbour: Harbour) -> None:
    replica = harbour.start(memory_bytes=1 << 28)
    harbour.until(replica, "ready")
    harbour.engine.containers[f"argosy-{replica}"].process.kill()
    failure = harbour.until(replica, "gone").failure or ""
    assert "most likely" in failure and "256M" in failure


def test_a_full_image_store_is_told_and_leaves_nothing(harbour: Harbour) -> None:
    harbour.engine.full = True
    with pytest.raises(EngineFailed, match=r"image store is full .* prune"):
        harbour.start()
    assert list((harbour.home.run / "c").iterdir()) == []
    assert not list((harbour.home.logs / "services").glob("iris/*"))


def test_a_replica_cannot_lead_the_control_plane_to_other_files(harbour: Harbour) -> None:
    """Its folder is its own to write: a link in place of its log or its reason is not followed."""
    replica = harbour.start()
    harbour.until(replica, "ready")
    secret = harbour.home.path / "secret"
    secret.write_text('{"code": "x", "reason": "the secret"}')
    folder = harbour.home.run / "c" / replica.rpartition("-")[2]
    (folder / "m" / "failure.json").symlink_to(secret)
    harbour.engine.containers[f"argosy-{replica}"].process.kill()
    assert "secret" not in (harbour.until(replica, "gone").failure or "")


def test_what_it_told_itself_counts_though_the_engine_is_dead(harbour: Harbour) -> None:
    replica = harbour.start()
    harbour.until(replica, "ready")
    harbour.engine.dead = True
    (harbour.own(replica) / "m" / "failure.json").write_text('{"code": "init_failed", "reason": "no such weights"}')
    harbour.engine.containers[f"argosy-{replica}"].process.kill()
    seen = harbour.until(replica, "gone")
    assert (seen.failure, seen.deterministic) == ("no such weights", True)


def test_no_request_goes_where_a_replica_leads(harbour: Harbour) -> None:
    """A link in place of its socket, to the engine's perhaps."""
    replica = harbour.start()
    harbour.until(replica, "ready")
    elsewhere = harbour.home.path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(elsewhere))
        (harbour.own(replica) / "m" / "sock").symlink_to(elsewhere)
        seen = harbour.until(replica, "gone")
    assert "in the place of its socket" in (seen.failure or "")
    harbour.target.forget(replica)
    assert harbour.engine.containers == {}, "it does not run on"


def test_folders_of_a_container_are_sticky(harbour: Harbour) -> None:
    """So that it cannot replace what the control plane puts there."""
    replica = harbour.start()
    mounted = (harbour.own(replica) / "m", harbour.home.logs / "services" / "iris" / replica)
    assert [folder.stat().st_mode & 0o7777 for folder in mounted] == [0o1777, 0o1777]


def test_one_replica_does_not_keep_new_keys_from_the_others(harbour: Harbour) -> None:
    hostile, good = harbour.start(), harbour.start()
    for replica in (hostile, good):
        harbour.until(replica, "ready")
    settings = harbour.own(hostile) / "m" / "settings.json"
    settings.unlink()
    settings.mkdir()
    with pytest.raises(StorageFailed, match=str(settings.parent)):
        harbour.target.apply_settings("iris", {"generation": 7})
    assert harbour.one(good).generation == 7


def test_a_drain_that_needs_a_dead_engine_is_made_up_for(harbour: Harbour) -> None:
    replica = harbour.start()
    harbour.until(replica, "ready")
    (harbour.own(replica) / "m" / "admin").unlink()
    harbour.engine.dead = True
    harbour.target.drain(replica, 0.0)
    assert harbour.one(replica).state == "draining"
    harbour.engine.dead = False
    assert harbour.until(replica, "gone").failure is None


def test_what_only_another_user_could_remove_is_told_once(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replicas = [harbour.start(), harbour.start()]
    for replica in replicas:
        harbour.until(replica, "ready")
        harbour.target.drain(replica, 30)
        harbour.until(replica, "gone")
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    with caplog.at_level(logging.WARNING):
        for replica in replicas:
            harbour.target.forget(replica)
    told = [line.getMessage() for line in caplog.records if "only their own user" in line.getMessage()]
    assert len(told) == 1 and str(harbour.home.run / "c") in told[0]


def test_logs_of_replicas_that_ended_long_ago_go(harbour: Harbour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argosy.environments.container.logs._KEEP", 1)
    replicas = [harbour.start() for _ in range(2)]
    for replica in replicas:
        harbour.until(replica, "ready")
        harbour.engine.containers[f"argosy-{replica}"].process.kill()
        harbour.until(replica, "gone")
        harbour.target.forget(replica)
    left = {path.name for path in (harbour.home.logs / "services" / "iris").iterdir()}
    assert left == {replicas[1], f"{replicas[1]}.end"}


@pytest.mark.parametrize(("size", "text"), [(512 << 20, "512M"), (3 << 29, "1.5G"), (10, "10 bytes")])
def test_sizes_are_shown_as_they_are_written(size: Any, text: str) -> None:
    assert shown(size) == text
