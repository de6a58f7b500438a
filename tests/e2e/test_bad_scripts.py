"""Scripts and models that fail where they run: the command says why, and everything else goes on."""

import time
from pathlib import Path

import psutil
import pytest

from argosy import connect
from argosy.errors import Error
from e2e.calls import Reply, call
from e2e.running import Argosy, RecipeFolder

# init() of each, and what `argosy service create` must say of it.
FAILING = {
    "raises": ("raise RuntimeError('the weights are missing')", "RuntimeError: the weights are missing"),
    "exits": ("import sys; sys.exit('enough')", "sys.exit('enough')"),
    "dies": ("import os; print('last words', flush=True); os._exit(7)", "exit code 7"),
    "crashes": ("import ctypes; print('last words', flush=True); ctypes.string_at(0)", "SIGSEGV"),
    "imports": ("import there_is_no_such_module", "Add the package that provides 'there_is_no_such_module'"),
    "opens": ("open('missing.bin')", "missing.bin"),
    "recurses": ("init()", "RecursionError"),
    "eats-memory": ("bytearray(1 << 60)", "MemoryError"),
}


@pytest.mark.parametrize("name", FAILING)
def test_an_init_that_fails(argosy: Argosy, recipe: RecipeFolder, name: str) -> None:
    body, message = FAILING[name]
    script = f"def init():\n    print('init begins', flush=True)\n    {body}\ndef run(numbers): return numbers\n"
    words = ("-m", recipe.model(2), *recipe.options(script=script))
    said = argosy.fails("service", "create", name, *words, code=2)
    assert message in said
    assert "init begins" in said, "the last log lines tell more"
    shown = argosy.json("service", "show", name)
    assert (shown["state"], shown["live_revision"], shown["replicas_ready"]) == ("failed", None, 0)
    assert message in shown["reason"]
    assert "failed" in argosy.fails("service", "wait", name, code=2)
    assert "exists already" in argosy.fails("service", "create", name, *words)
    reply = call(shown["scoring_url"], {"numbers": [1]}, token=argosy.key(name))
    assert (reply.status, reply.error["code"]) == (503, "no_ready_replica")
    argosy.ok("service", "delete", name, "--yes")


def test_a_failed_service_is_mended_by_an_update(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = "def init(): raise ValueError('not yet')\ndef run(numbers): return numbers\n"
    argosy.fails("service", "create", "mended", "-m", recipe.model(2), *recipe.options(script=script), code=2)
    argosy.ok("service", "update", "mended", *recipe.options())
    assert argosy.json("service", "run", "mended") == [2.0, 4.0]
    assert argosy.json("service", "show", "mended")["state"] == "healthy"


@pytest.mark.parametrize("how", ["time.sleep(1000)", "exec('while True: pass')"])
def test_an_init_that_hangs(argosy: Argosy, recipe: RecipeFolder, how: str) -> None:
    script = f"import time\ndef init():\n    print('waiting for ever', flush=True)\n    {how}\ndef run(numbers): ...\n"
    options = recipe.options(script=script)
    with connect(home=argosy.home) as client, pytest.raises(Error) as failure:
        client.services.create(
            "hangs",
            model_files=[recipe.model(2)],
            script=options[options.index("-f") + 1],
            requirements=options[options.index("-p") + 1],
            schema=options[options.index("-s") + 1],
            settings={"init_timeout_s": 2.0},
        )
    assert "2 s" in failure.value.message
    assert any("waiting for ever" in line for line in failure.value.details["log"])
    shown = argosy.json("service", "show", "hangs")
    assert (shown["state"], shown["replicas_ready"]) == ("failed", 0)
    argosy.ok("service", "delete", "hangs", "--yes")
    assert not any("-hangs-" in words for words in argosy.commands())


def test_the_sample_must_be_answered(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    script = "def run(numbers): return numbers[5]\n"
    said = argosy.fails("service", "create", "sampled", "-m", recipe.model(2), *recipe.options(script=script), code=2)
    assert "sample" in said and "IndexError" in said
    (tmp_path / "sample.json").write_text('{"input": {"numbers": [1]}, "output": [3]}')
    options = (*recipe.options(), "--sample", tmp_path / "sample.json")
    said = argosy.fails("service", "create", "sampled2", "-m", recipe.model(2), *options, code=2)
    assert "sample" in said and "3" in said and "2" in said


def test_a_model_that_does_not_fit_the_lock(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    """Pickled by scikit-learn, which the lock does not have; and by a version of it that knows another class."""
    import joblib
    from sklearn.linear_model import LinearRegression

    model = tmp_path / "model.joblib"
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), model)
    said = argosy.fails("service", "create", "unfit", "-m", model, *recipe.options(), code=2)
    assert "sklearn" in said and ("scikit-learn" in said or "other library versions" in said)

    class_gone = tmp_path / "gone" / "model.joblib"
    class_gone.parent.mkdir()
    # As a pickle whose class has moved in the version that the environment has.
    class_gone.write_bytes(b"cjoblib.memory\nThereWasAClassOnce\n.")
    said = argosy.fails("service", "create", "unfit2", "-m", class_gone, *recipe.options(), code=2)
    assert "ThereWasAClassOnce" in said
    assert "other library versions than this environment has (joblib" in said


@pytest.fixture(scope="module")
def touchy(argosy: Argosy, recipe: RecipeFolder) -> str:
    """Does what its one input says."""
    script = (
        "import math, os, sys, time\n"
        "def run(numbers):\n"
        "    print('asked for', numbers)\n"
        "    kind = int(numbers[0])\n"
        "    if kind == 1: raise KeyError('secret-detail-of-the-model')\n"
        "    if kind == 2: sys.exit(3)\n"
        "    if kind == 3: return object()\n"
        "    if kind == 4: return float('nan')\n"
        "    if kind == 5: time.sleep(2)\n"
        "    if kind == 6: os._exit(9)\n"
        "    return numbers\n"
    )
    (argosy.home / "touchy.json").write_text('{"numbers": [0]}')
    argosy.ok(
        *("service", "create", "touchy", "-m", recipe.model(2), *recipe.options(script=script)),
        *("--request-timeout-ms", "1000", "--sample", argosy.home / "touchy.json"),
    )
    return "touchy"


def ask(argosy: Argosy, service: str, kind: int, request_id: str) -> Reply:
    url = argosy.json("service", "show", service)["scoring_url"]
    return call(url, {"numbers": [kind]}, token=argosy.key(service), headers={"x-request-id": request_id})


@pytest.mark.parametrize(("kind", "trace"), [(1, "KeyError"), (2, "SystemExit"), (3, "object")])
def test_a_run_that_fails(argosy: Argosy, touchy: str, kind: int, trace: str) -> None:
    """500 without a traceback, which is in the log under the request's id; the replica lives on."""
    pids = [r["pid"] for r in argosy.json("service", "show", touchy)["replicas"]]
    request_id = f"failing-{kind}"
    reply = ask(argosy, touchy, kind, request_id)
    assert (reply.status, reply.error["code"]) == (500, "scoring_failed")
    assert reply.headers["x-request-id"] == request_id
    text = reply.content.decode()
    assert "Traceback" not in text and "secret-detail" not in text and "score.py" not in text
    log = argosy.ok("service", "logs", touchy, "-r", request_id).out
    assert "asked for" in log
    assert trace in log
    if kind == 1:
        assert "Traceback" in log and "secret-detail-of-the-model" in log
    said = argosy.fails("service", "run", touchy, "-d", f'{{"numbers": [{kind}]}}', code=2)
    assert "Traceback" not in said
    assert ask(argosy, touchy, 0, "after").json == [0]
    assert [r["pid"] for r in argosy.json("service", "show", touchy)["replicas"]] == pids


def test_nan_is_no_broken_json(argosy: Argosy, touchy: str) -> None:
    reply = ask(argosy, touchy, 4, "nan")
    assert reply.status in (200, 500)
    assert b"NaN" not in reply.content


def test_a_run_that_takes_too_long(argosy: Argosy, touchy: str) -> None:
    reply = ask(argosy, touchy, 5, "slow")
    assert (reply.status, reply.error["code"]) == (504, "timeout")
    deadline = time.monotonic() + 60
    while ask(argosy, touchy, 0, "after").status != 200:
        assert time.monotonic() < deadline, "the slot is free again when run() has returned"


def test_a_run_that_ends_the_process(argosy: Argosy, touchy: str) -> None:
    before = {r["pid"] for r in argosy.json("service", "show", touchy)["replicas"]}
    reply = ask(argosy, touchy, 6, "deadly")
    assert reply.status in (502, 503)
    assert reply.error["message"]
    deadline = time.monotonic() + 60
    while ask(argosy, touchy, 0, "after").status != 200:
        assert time.monotonic() < deadline, "another replica takes its place"
    argosy.ok("service", "wait", touchy)
    while not before.isdisjoint(r["pid"] for r in argosy.json("service", "show", touchy)["replicas"]):
        assert time.monotonic() < deadline, "what is left of the one that ended is put away"
    assert "ended by itself with exit code 9" in (argosy.home / "logs" / "control-plane.log").read_text()


def test_nothing_is_left_of_all_this(argosy: Argosy, touchy: str) -> None:
    """Every replica that runs belongs to a service that is healthy, and every run folder to a replica."""
    argosy.ok("service", "wait", touchy)
    replicas = [r for s in argosy.json("service", "list") for r in s["replicas"]]
    assert all(psutil.pid_exists(r["pid"]) for r in replicas)
    assert len(list((argosy.home / "run" / "r").iterdir())) == len(replicas)
    services = {s["name"] for s in argosy.json("service", "list")}
    assert {path.name for path in (argosy.home / "services").iterdir()} <= services
    assert "Traceback" not in (argosy.home / "logs" / "control-plane.log").read_text()
