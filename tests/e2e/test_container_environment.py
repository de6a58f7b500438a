"""Replicas in containers: a real Podman and a real Docker do what processes do, and fail as engines do."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from argosy.environments.container.images import EngineImages
from argosy.environments.container.trial import TRIAL
from argosy.images.oci.layout import OciLayout
from argosy.images.oci.platforms import own_platform
from conftest import Require
from e2e.calls import call
from e2e.containers import base_image
from e2e.engines import EngineServer, running
from e2e.load import Load
from e2e.running import SCORE, Argosy, RecipeFolder

SECRET = "never in an image: 6c1d9f"
HUNGRY = """
import errno
import os

def init():
    assert os.environ["TOKEN"].startswith("never")

def run(numbers):
    if numbers[0] == -1:
        return len(bytearray(os.urandom(1 << 20) * 600))
    if numbers[0] == -2:
        return [os.getuid(), os.environ["TOKEN"], open("/proc/self/status").read(), refused(os.mkdir, "/opt/argosy/x")]
    if numbers[0] == -3:
        told = refused(os.unlink, "/run/argosy/settings.json")
        os.unlink("/run/argosy/sock")
        os.symlink("admin", "/run/argosy/sock")
        return told
    return [2 * number for number in numbers]

def refused(do, path):
    try:
        do(path)
    except OSError as problem:
        return errno.errorcode[problem.errno]
    return "done"
"""
CRASHING = "def init():\n    raise RuntimeError('no such weights')\n\ndef run(numbers):\n    return numbers\n"
# The default base, for those who name none.
NOWHERE = "127.0.0.1:9/python:{python}-slim-bookworm"
_PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def base(require: Require) -> tuple[str, str]:
    """(reference, Python) of the base image."""
    debootstrap = require("debootstrap")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a base image with debootstrap: run the tests as root")
    return base_image(debootstrap)


@pytest.fixture(scope="module")
def argosy(module_home: Path) -> Argosy:
    made = Argosy(module_home, {"ARGOSY_BASE_IMAGE": NOWHERE})
    made.up()
    return made


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request: pytest.FixtureRequest, require: Require) -> Iterator[EngineServer]:
    kind = str(request.param)
    require("ip")
    with running(kind, require({"docker": "dockerd"}.get(kind, kind))) as server:
        yield server


class Box:
    """An Argosy with an environment `box` on an engine."""

    def __init__(self, argosy: Argosy, engine: EngineServer, base: tuple[str, str], recipe: RecipeFolder) -> None:
        self.argosy, self.engine, self.recipe = argosy, engine, recipe
        self.base, self._python = base

    def create(self, name: str, *options: object, script: str = SCORE, factor: float = 2.0) -> None:
        how = ("--env", "box", "--base", self.base, "-r", f"python:{self._python}", *options)
        recipe = self.recipe.options(script=script)
        self.argosy.ok("service", "create", name, "-m", self.recipe.model(factor), *recipe, *how)

    def show(self, name: str) -> Any:
        return self.argosy.json("service", "show", name)

    def score(self, name: str, *numbers: float) -> Any:
        url = self.show(name)["scoring_url"]
        reply = call(url, {"numbers": numbers}, token=self.argosy.key(name))
        assert reply.status == 200, reply.content
        return reply.json

    def status(self, name: str, *numbers: float) -> int:
        return call(self.show(name)["scoring_url"], {"numbers": numbers}, token=self.argosy.key(name)).status

    def load(self, name: str) -> Load:
        return Load(self.show(name)["scoring_url"], self.argosy.key(name), {"numbers": [1]}, 2)

    def containers(self, name: str) -> set[str]:
        return self.engine.names(self.argosy.home, name)

    def limits(self, name: str) -> set[tuple[float, int]]:
        """(cores, bytes of memory) of its containers, as the engine has them."""
        with contextlib.closing(docker.APIClient(self.engine.url)) as client:
            found = [client.inspect_container(container)["HostConfig"] for container in self.containers(name)]
        return {(one["NanoCpus"] / 1e9, one["Memory"]) for one in found}

    def doors(self, name: str) -> list[tuple[str, int]]:
        """Where its containers' ports are published: (address, port) of each."""
        with contextlib.closing(docker.APIClient(self.engine.url)) as client:
            found = [client.inspect_container(container)["NetworkSettings"] for container in self.containers(name)]
        (published,) = {tuple(one["Ports"]) for one in found}
        assert published == ("5001/tcp",)
        return [(door["HostIp"], int(door["HostPort"])) for one in found for door in one["Ports"]["5001/tcp"]]

    def replaced(self, name: str, before: set[str]) -> Any:
        """The service, once it is healthy without any of the replicas of `before`."""
        shown = self.show(name)
        now = {f"argosy-{replica['id']}" for replica in shown["replicas"]}
        return shown if now and not now & before and shown["state"] == "healthy" else None

    def replicas(self, name: str) -> set[str]:
        return {f"argosy-{replica['id']}" for replica in self.show(name)["replicas"]}


@pytest.fixture(scope="module")
def box(argosy: Argosy, engine: EngineServer, base: tuple[str, str], recipe: RecipeFolder) -> Iterator[Box]:
    argosy.ok("env", "create", "box", "--kind", "container", "--engine", engine.url)
    yield Box(argosy, engine, base, recipe)
    for service in argosy.json("service", "list"):
        argosy.ok("service", "delete", service["name"], "--yes")
    argosy.ok("env", "delete", "box", "--yes")


def until(claim: Callable[[], Any], what: object = "it") -> Any:
    deadline = time.monotonic() + _PATIENCE_S
    while not (found := claim()):
        assert time.monotonic() < deadline, f"never: {what() if callable(what) else what}"
        time.sleep(0.2)
    return found


def test_one_service_from_a_model_file_to_nothing(box: Box) -> None:
    """Create, score, keys, scale, logs, delete; the image is built on the way."""
    argosy = box.argosy
    box.create("whole", "-z", "2", "--cpu", "0.5", "--memory", "300M")
    shown = box.show("whole")
    assert (shown["environment"], shown["state"], shown["settings"]["memory_bytes"]) == ("box", "healthy", 300 << 20)
    assert argosy.json("image", "show", shown["image"])["oci"]
    assert box.score("whole", 1, 2) == [2.0, 4.0]
    assert len(box.containers("whole")) == 2 and box.containers("whole") == box.replicas("whole")
    assert box.limits("whole") == {(0.5, 300 << 20)}
    doors = box.doors("whole")
    assert len(doors) == 2 and {address for address, _ in doors} == {"127.0.0.1"}
    direct = [f"http://127.0.0.1:{port}/api/v1/service/whole/score" for _, port in doors]
    old = argosy.key("whole")
    assert [call(url, {"numbers": [1]}, token=old).json for url in direct] == [[2.0], [2.0]]
    argosy.ok("service", "keys", "whole", "--regenerate", "primary")
    assert [call(url, {"numbers": [1]}, token=old).status for url in direct] == [401, 401]
    assert call(shown["scoring_url"], {"numbers": [1]}, token=old).status == 401
    assert box.score("whole", 1) == [2.0], "with the new one"
    argosy.ok("service", "update", "whole", "--max-queued-requests", "7")
    assert box.show("whole")["live_revision"] == 1, "a hot setting reaches those that run"
    argosy.ok("service", "update", "whole", "--memory", "400M")
    assert box.show("whole")["live_revision"] == 2, "a limit needs other containers"
    argosy.ok("service", "scale", "whole", "-z", "1")
    until(lambda: len(box.containers("whole")) == 1)
    assert "scoring 1" in argosy.ok("service", "logs", "whole").out
    assert "service whole" in argosy.fails("env", "delete", "box", "--yes")
    argosy.ok("service", "delete", "whole", "--yes")
    assert box.containers("whole") == set()
    assert list((argosy.home / "run" / "c").iterdir()) == []
    assert not (argosy.home / "logs" / "services" / "whole").exists()


def test_updates_under_load(box: Box) -> None:
    """Another model, one that crashes, and the way back: no request fails."""
    argosy, recipe = box.argosy, box.recipe
    box.create("moving", "-z", "2")
    with box.load("moving") as load:
        load.more()
        argosy.ok("service", "update", "moving", "-m", recipe.model(3.0))
        load.wait_for(lambda: "[3.0]" in load.answers)
        crashing = recipe.folder / "crashing.py"
        crashing.write_text(CRASHING)
        told = argosy.fails("service", "update", "moving", "-f", crashing, code=2)
        assert "no such weights" in told and "Revision 2 keeps serving" in told
        load.more()
        argosy.ok("service", "rollback", "moving")
        before = load.answers["[2.0]"]
        load.wait_for(lambda: load.answers["[2.0]"] > before)
        argosy.ok("service", "scale", "moving", "-z", "1")
        load.more()
    assert load.failures == {}
    until(lambda: box.containers("moving") == box.replicas("moving"))
    argosy.ok("service", "delete", "moving", "--yes")
    assert box.containers("moving") == set()


def test_locked_in_and_out_of_memory(box: Box) -> None:
    """What user code is allowed, that its secret reaches it and no image, and what is said when it takes too much."""
    argosy = box.argosy
    token = argosy.home / "secret-token"
    token.write_text(SECRET)
    box.create("hungry", "--memory", "256M", "--secret", f"TOKEN=file:{token}", script=HUNGRY)
    user, secret, status, made = box.score("hungry", -2)
    held = dict(line.split(":\t") for line in status.splitlines())
    assert (user, secret, made) == (65532, SECRET, "EROFS"), "asked before its rights are: else it were EACCES"
    assert (held["CapEff"], held["CapBnd"], held["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    layout = OciLayout(argosy.home / "oci")
    for content in argosy.json("image", "show", box.show("hungry")["image"])["contents"]:
        blobs = [content["digest"], layout.json(content["digest"])["config"]["digest"]]
        blobs += [layer["digest"] for layer in content["layers"]]
        assert not any(SECRET.encode() in layout.path(digest).read_bytes() for digest in blobs)
    before = box.containers("hungry")
    assert box.status("hungry", -1) in (502, 503, 504), "the replica died over it"
    shown = until(lambda: box.replaced("hungry", before))
    assert "ran out of memory" in shown["last_failure"] and "its limit of 256M" in shown["last_failure"]
    assert "--memory" in argosy.ok("service", "show", "hungry").out
    assert "its limit of 256M" in argosy.ok("service", "logs", "hungry").out
    assert box.score("hungry", 4) == [8]
    before = box.containers("hungry")
    assert box.score("hungry", -3) == "EPERM", "what the control plane has put there stays"
    argosy("service", "update", "hungry", "--max-queued-requests", "9")  # so that it is looked at now
    until(lambda: box.replaced("hungry", before))
    # In the log, since an update that ends now forgets what went wrong before.
    assert "in the place of its socket" in argosy.ok("service", "logs", "hungry").out
    assert box.score("hungry", 4) == [8] and not box.containers("hungry") & before
    argosy.ok("service", "delete", "hungry", "--yes")


def test_memory_that_is_too_little_to_start_is_told(box: Box) -> None:
    big = "import os\nblob = bytearray(os.urandom(1 << 20) * 600)\n\ndef run(numbers):\n    return numbers\n"
    with pytest.raises(AssertionError, match=r"ran out of memory .*it needed more than its limit of 200M"):
        box.create("small", "--memory", "200M", script=big)
    assert "ran out of memory" in box.show("small")["reason"]
    box.argosy.ok("service", "delete", "small", "--yes")
    assert box.containers("small") == set()


def test_the_control_plane_dies_and_adopts(box: Box) -> None:
    argosy = box.argosy
    box.create("kept", "-z", "2")
    running = box.containers("kept")
    with box.load("kept") as load:
        load.more()
        os.kill(argosy.address["pid"], signal.SIGKILL)
        load.more()
        argosy.ok("up")
        until(lambda: box.show("kept")["state"] == "healthy")
        load.more()
    assert load.failures == {}
    assert box.containers("kept") == running == box.replicas("kept")
    argosy.ok("service", "update", "kept", "-m", box.recipe.model(5.0))
    assert box.score("kept", 1) == [5.0]
    argosy.ok("service", "delete", "kept", "--yes")


def test_an_engine_that_dies_and_comes_back(box: Box) -> None:
    """Podman's containers live on without it, Docker's end with it; either way nothing is deleted or started twice."""
    argosy, engine = box.argosy, box.engine
    box.create("patient", "-z", "2")
    before = box.containers("patient")
    engine.stop()
    try:
        reason = until(lambda: (r := box.show("patient")["reason"]) and "does not answer" in r and r)
        assert engine.url in reason and "Start it again" in reason
        assert "does not answer" in argosy("env", "check", "box").out
        told = argosy.fails("service", "create", "late", "--image", "patient:1", "--env", "box", code=2)
        assert "does not answer" in told
        if engine.kind == "podman":
            assert box.score("patient", 1) == [2.0], "what runs goes on"
            argosy.ok("service", "scale", "patient", "-z", "3", "--no-wait")
        else:
            assert box.status("patient", 1) == 503
    finally:
        engine.start()
    until(lambda: box.show("patient")["state"] == "healthy", lambda: box.show("patient"))
    wanted = 3 if engine.kind == "podman" else 2
    until(lambda: len(box.containers("patient")) == wanted, lambda: (box.show("patient"), box.containers("patient")))
    assert box.containers("patient") == box.replicas("patient")
    assert (before <= box.containers("patient")) == (engine.kind == "podman"), "adopted"
    assert box.score("patient", 1) == [2.0]
    argosy.ok("service", "delete", "patient", "--yes")
    assert box.containers("patient") == set()


def test_an_engine_that_hangs(box: Box) -> None:
    """It is told as one that is dead, and a delete that it kept waiting leaves nothing when it goes on."""
    argosy, engine = box.argosy, box.engine
    box.create("stalled")
    engine.pause()
    try:
        until(lambda: "does not answer" in box.show("stalled")["reason"])
        assert box.score("stalled", 1) == [2.0]
        argosy.ok("service", "delete", "stalled", "--yes", "--no-wait")
    finally:
        engine.resume()
    until(lambda: box.containers("stalled") == set())
    until(lambda: "stalled" not in [service["name"] for service in argosy.json("service", "list")])


def test_somebody_removes_a_container(box: Box) -> None:
    box.create("robbed")
    before = box.containers("robbed")
    for name in before:
        box.engine.engine.remove(name)
    until(lambda: box.replaced("robbed", before))
    assert box.score("robbed", 1) == [2.0]
    box.argosy.ok("service", "delete", "robbed", "--yes")


def test_asleep_and_awake(box: Box) -> None:
    """The autoscaler ends the last container and starts one for the next request, which waits."""
    scale = ("--autoscale-enabled", "true", "--min-replicas", "0", "--scale-down-delay-seconds", "1")
    box.create("sleepy", *scale)
    until(lambda: box.containers("sleepy") == set(), lambda: box.show("sleepy"))
    assert box.score("sleepy", 3) == [6.0]
    assert len(box.containers("sleepy")) == 1
    box.argosy.ok("service", "delete", "sleepy", "--yes")


def test_an_update_stands_on_what_the_steps_made(box: Box, tmp_path: Path) -> None:
    """Without running them again, and the new image still says which they were and what they ran on."""
    argosy = box.argosy
    steps = tmp_path / "steps.txt"
    steps.write_text("ENV SEA=calm\n")
    box.create("stepped")
    manifest = argosy.json("service", "show", "stepped")["manifest"]
    argosy.ok("service", "delete", "stepped", "--yes")
    build = ("--builder", "docker", "--base", box.base, "--docker-steps", steps)
    argosy.ok("image", "create", "-n", "stepped", "--manifest", manifest, *build)
    first = argosy.json("image", "show", "stepped")
    made = f"stepped:{first['version']}"
    argosy.ok("service", "create", "stepped", "--image", made, "--env", "box")
    argosy.ok("service", "update", "stepped", "-m", box.recipe.model(3.0))
    assert box.score("stepped", 1) == [3.0]
    second = argosy.json("image", "show", "stepped")
    assert second["version"] > first["version"]
    assert second["contents"][0]["base"] == first["contents"][0]["base"]
    written = argosy.ok("image", "dockerfile", "stepped").out
    assert "ENV SEA=calm\n" in written and first["contents"][0]["base"] in written
    argosy.ok("service", "delete", "stepped", "--yes")


def test_image_run(box: Box, tmp_path: Path) -> None:
    """One container, its sample, and nothing is left; a process where there is no engine."""
    argosy, kind = box.argosy, box.engine.kind
    sample = box.recipe.folder / "sample.json"
    sample.write_text('{"numbers": [1.0, 4.0]}')
    box.create("tried", "--sample", sample)
    image = argosy.json("image", "show", "tried")
    name = f"tried:{image['version']}"
    argosy.ok("service", "delete", "tried", "--yes")
    told = argosy.ok("image", "run", "tried", "--env", "box").out
    assert f"as a container of {kind.title()}" in told and "[2.0, 8.0]" in told and "scoring 2" in told
    other = tmp_path / "other.json"
    other.write_text('{"input": {"numbers": [5.0]}, "output": [11.0]}')
    done = argosy("image", "run", "tried", "--env", "box", "--sample", other)
    assert done.code == 1 and "differs" in done.out
    assert "a process of this machine" in argosy.ok("image", "run", "tried", "--env", "local").out
    argosy.fails("image", "run", "tried", "--sample", tmp_path / "none.json")
    argosy.ok("image", "create", "-n", "plain", "--manifest", image["manifest"])
    assert "was not built as OCI" in argosy.ok("image", "run", "plain").out
    told = argosy.fails("image", "run", "plain", "--env", "box")
    assert "--builder oci" in told and "--base" not in told, "there is a default base"
    assert box.engine.engine.labelled({TRIAL: name}) == []
    loaded = EngineImages(OciLayout(argosy.home / "oci"), set)
    tag = loaded.tag(image["oci"][own_platform()])
    assert tag in box.engine.engine.tags(loaded.repository)
    argosy.ok("image", "delete", name, "--yes")
    until(lambda: tag not in box.engine.engine.tags(loaded.repository), "deleted images leave the engine")


def test_tune_measures_a_container(box: Box) -> None:
    """With the limits of the service's own, and nothing is left."""
    argosy = box.argosy
    sample = box.recipe.folder / "sample.json"
    sample.write_text('{"numbers": [1.0]}')
    box.create("tuned", "--cpu", "0.3", "--sample", sample)
    before = box.containers("tuned")
    found = argosy.json("service", "tune", "tuned")
    points = [point for curve in found["curves"] for point in curve["points"]]
    assert points and all(0 < point["cores"] < 0.5 for point in points), "a process would take a whole core"
    assert found["proposal"]["max_concurrent_requests"] >= 1
    image = argosy.json("service", "show", "tuned")["image"]
    assert box.engine.engine.labelled({TRIAL: image}) == []
    assert box.containers("tuned") == before, "the service itself is not touched"
    argosy.ok("service", "delete", "tuned", "--yes")


def test_a_full_image_store(box: Box, require: Require) -> None:
    """Told when the deploy wants to load the image; nothing is half there, and what runs elsewhere goes on."""
    argosy, kind = box.argosy, box.engine.kind
    box.create("roomy")
    with running(kind, require({"docker": "dockerd"}.get(kind, kind)), store_bytes=60 << 20) as small:
        argosy.ok("env", "create", "narrow", "--kind", "container", "--engine", small.url)
        told = argosy.fails("service", "create", "crowded", "--image", "roomy:1", "--env", "narrow", code=2)
        assert "image store is full" in told and "prune" in told
        assert "crowded" not in [service["name"] for service in argosy.json("service", "list")]
        assert small.names(argosy.home, "crowded") == set()
        argosy.ok("env", "delete", "narrow", "--yes")
    assert box.score("roomy", 1) == [2.0]
    argosy.ok("service", "delete", "roomy", "--yes")


def test_mistakes_are_told(box: Box, tmp_path: Path) -> None:
    argosy, recipe = box.argosy, box.recipe
    options = ["-m", recipe.model(2.0), *recipe.options()]
    assert "processes, whose memory" in argosy.fails("service", "create", "wrong", *options, "--memory", "1G")
    missing = argosy.fails("service", "create", "wrong", *options, "--env", "box", code=2)
    assert NOWHERE.partition("/")[0] in missing
    assert all(way in missing for way in ("--base", "oci:DIR", "base_image")), missing
    assert "in a container has a base" in argosy.fails("service", "create", "wrong", *options, "--base", "oci:x")
    create = ["env", "create", "other", "--kind"]
    assert "unix:///path" in argosy.fails(*create, "container", "--engine", "tcp://127.0.0.1:1")
    assert "--kind container" in argosy.fails(*create, "process", "--engine", box.engine.url)
    gone = argosy.fails(*create, "container", "--engine", f"unix://{tmp_path}/no", code=2)
    assert "does not answer" in gone


def test_the_default_environment(box: Box) -> None:
    argosy = box.argosy
    argosy.ok("env", "use", "box")
    try:
        assert {e["name"]: e["is_default"] for e in argosy.json("env", "list")} == {"box": True, "local": False}
        box.create("default")
        assert json.loads(argosy.ok("service", "show", "default", "-o", "json").out)["environment"] == "box"
        argosy.ok("service", "delete", "default", "--yes")
    finally:
        argosy.ok("env", "use", "local")
