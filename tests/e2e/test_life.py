"""What must hold while requests flow: updates, scaling, keys, faults. Zero lost requests, always."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from e2e.load import Load
from e2e.running import Argosy, RecipeFolder


@pytest.fixture
def service(argosy: Argosy, recipe: RecipeFolder, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name).removeprefix("test_").replace("_", "-")[:40].strip("-")
    argosy.ok("service", "create", name, "-m", recipe.model(2), *recipe.options(), "-z", "2")
    return name


def load_on(argosy: Argosy, service: str) -> Load:
    url = argosy.json("service", "show", service)["scoring_url"]
    return Load(url, argosy.key(service), {"numbers": [1, 2]})


def control_plane_killed_and_back(argosy: Argosy) -> None:
    pid = argosy.address["pid"]
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)


def test_update_under_load_keeps_url_and_keys(argosy: Argosy, recipe: RecipeFolder, service: str) -> None:
    before = argosy.json("service", "show", service)
    with load_on(argosy, service) as load:
        load.more()
        argosy.ok("service", "update", service, "-m", recipe.model(3))
        load.more()
    after = argosy.json("service", "show", service)
    assert load.failures == {}
    assert set(load.answers) == {"[2,4]", "[3,6]"}
    assert (after["live_revision"], after["scoring_url"]) == (2, before["scoring_url"])
    assert load.key == argosy.key(service)
    assert [m.split(":")[1] for m in after["models"]] == ["2"]


def test_update_of_one_replica_under_load(argosy: Argosy, recipe: RecipeFolder, service: str) -> None:
    argosy.ok("service", "scale", service, "-z", "1")
    with load_on(argosy, service) as load:
        load.more()
        argosy.ok("service", "update", service, "-m", recipe.model(5))
        load.more()
    assert load.failures == {}
    assert len(argosy.json("service", "show", service)["replicas"]) <= 2


def test_scaling_under_load(argosy: Argosy, service: str) -> None:
    with load_on(argosy, service) as load:
        for replicas in (4, 1, 3):
            argosy.ok("service", "scale", service, "-z", replicas)
            load.more()
    assert load.failures == {}


def test_a_bad_revision_leaves_the_old_one_serving(argosy: Argosy, recipe: RecipeFolder, service: str) -> None:
    bad = "def init():\n    print('about to fail')\n    raise RuntimeError('the weights are missing')\n"
    bad += "def run(numbers): ...\n"
    with load_on(argosy, service) as load:
        done = argosy("service", "update", service, *recipe.options(script=bad))
        load.more()
    assert load.failures == {}
    assert done.code == 2
    assert "the weights are missing" in done.err
    assert "about to fail" in done.err, "the last log lines tell more"
    shown = argosy.json("service", "show", service)
    assert (shown["live_revision"], shown["state"]) == (1, "healthy")
    states = {r["number"]: r["state"] for r in argosy.json("service", "history", service)}
    assert states == {1: "live", 2: "failed"}


def test_rollback_under_load(argosy: Argosy, recipe: RecipeFolder, service: str) -> None:
    argosy.ok("service", "update", service, "-m", recipe.model(7))
    with load_on(argosy, service) as load:
        argosy.ok("service", "rollback", service)
        load.more()
    assert load.failures == {}
    assert argosy.json("service", "show", service)["live_revision"] == 1
    assert argosy.json("service", "run", service, "-d", '{"numbers": [1]}') == [2.0]


def test_control_plane_killed_under_load(argosy: Argosy, service: str) -> None:
    with load_on(argosy, service) as load:
        replicas = {r["pid"] for r in argosy.json("service", "show", service)["replicas"]}
        gateway = argosy.json("status")["gateway"]["pid"]
        control_plane_killed_and_back(argosy)
        load.more()
        argosy.ok("up")
        argosy.ok("service", "wait", service)
        load.more()
    assert load.failures == {}
    assert {r["pid"] for r in argosy.json("service", "show", service)["replicas"]} == replicas, "adopted, not doubled"
    assert argosy.json("status")["gateway"]["pid"] == gateway


def test_control_plane_killed_during_an_update_under_load(argosy: Argosy, recipe: RecipeFolder, service: str) -> None:
    with load_on(argosy, service) as load:
        argosy.ok("service", "update", service, "-m", recipe.model(11), "--no-wait")
        time.sleep(0.3)
        control_plane_killed_and_back(argosy)
        load.more()
        argosy.ok("up")
        load.wait_for(lambda: "[11,22]" in load.answers)
        argosy.ok("service", "wait", service)
    assert load.failures == {}
    shown = argosy.json("service", "show", service)
    assert (shown["live_revision"], shown["replicas_ready"]) == (2, 2)


def test_a_killed_replica_is_replaced(argosy: Argosy, service: str) -> None:
    victim = argosy.json("service", "show", service)["replicas"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    with load_on(argosy, service) as load:
        load.wait_for(lambda: victim not in {r["pid"] for r in argosy.json("service", "show", service)["replicas"]})
        argosy.ok("service", "wait", service)
        load.more()
    # Only requests that were under way in the killed replica can be lost, and there were none.
    assert load.failures == {}
    assert argosy.json("service", "show", service)["replicas_ready"] == 2


def test_a_killed_gateway_comes_back(argosy: Argosy, service: str) -> None:
    gateway = psutil.Process(argosy.json("status")["gateway"]["pid"])
    for process in [gateway, *gateway.children(recursive=True)]:
        process.kill()
    deadline = time.monotonic() + 30
    while argosy("service", "run", service).code:
        assert time.monotonic() < deadline
    assert argosy.json("status")["gateway"]["pid"] != gateway.pid


def test_regenerated_keys(argosy: Argosy, service: str) -> None:
    url = argosy.json("service", "show", service)["scoring_url"]
    old, secondary = argosy.key(service), argosy.key(service, "secondary")
    with Load(url, secondary, {"numbers": [1]}) as load:
        argosy.ok("service", "keys", service, "--regenerate", "primary")
        load.more()
    assert load.failures == {}, "the other key works all the time"
    new = argosy.key(service)
    assert new != old
    with Load(url, new, {"numbers": [1]}) as load:
        load.more(20)
    assert load.failures == {}
    with Load(url, old, {"numbers": [1]}) as load:
        load.more(20)
    assert set(load.outcomes) == {"401"}


def test_back_after_a_reboot(argosy: Argosy, service: str) -> None:
    """Every process is gone at once, as in a power cut; `up` brings all back at the same URL with the same keys."""
    url, key = argosy.json("service", "show", service)["scoring_url"], argosy.key(service)
    for process in argosy.processes():
        process.kill()
    argosy.ok("up")
    argosy.ok("service", "wait", service)
    assert (argosy.json("service", "show", service)["scoring_url"], argosy.key(service)) == (url, key)
    with Load(url, key, {"numbers": [1]}) as load:
        load.more(20)
    assert load.failures == {}


def test_down_leaves_nothing_behind(fresh: Argosy, recipe: RecipeFolder) -> None:
    fresh.up()
    fresh.ok("service", "create", "gone", "-m", recipe.model(2), *recipe.options(), "-z", "2")
    assert len(fresh.processes()) >= 4
    fresh.ok("down")
    assert fresh.processes() == []
    assert list((fresh.home / "run" / "r").iterdir()) == []
    done = fresh("down")
    assert done.code == 0
    fresh.ok("up")
    fresh.ok("service", "wait", "gone")
    assert fresh.json("service", "run", "gone") == [2.0, 4.0]


def test_down_after_the_control_plane_was_killed(fresh: Argosy, recipe: RecipeFolder) -> None:
    fresh.up()
    fresh.ok("service", "create", "gone", "-m", recipe.model(2), *recipe.options())
    control_plane_killed_and_back(fresh)
    fresh.ok("down")
    assert fresh.processes() == []


def test_deleting_a_service(argosy: Argosy, service: str) -> None:
    argosy.ok("service", "delete", service, "--yes")
    done = argosy("service", "show", service)
    assert (done.code, "service" in done.err) == (1, True)
    assert not (argosy.home / "services" / service).exists()
    assert not any(service in path.name for path in Path(argosy.home / "logs" / "services").iterdir())
