"""Every command of a model's way to a service, typed by hand."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Require
from e2e.calls import call
from e2e.running import Argosy, Done, RecipeFolder


@pytest.fixture(scope="module")
def wine(argosy: Argosy, recipe: RecipeFolder) -> str:
    """A service that tests may look at and score, but not change."""
    argosy.ok("service", "create", "wine", "-m", recipe.model(2), *recipe.options(), "--description", "doubles")
    return "wine"


def typed(argosy: Argosy, line: str, given: str = "") -> Done:
    """A line as a user types it into bash, with `argosy` on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line], env=argosy.environ | {"PATH": path}, input=given, capture_output=True, text=True
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_four_steps_one_by_one(argosy: Argosy, recipe: RecipeFolder) -> None:
    first = argosy.json("model", "register", recipe.model(2), "-n", "iris", "-t", "stage=dev", "--metric", "f1=0.5")
    second = argosy.json("model", "register", recipe.model(3), "-n", "iris")
    assert [(m["name"], m["version"]) for m in (first, second)] == [("iris", 1), ("iris", 2)]
    assert argosy.json("model", "show", "iris:1")["digest"] == first["digest"], "nothing is overwritten"
    assert (first["tags"], first["metrics"]) == ({"stage": "dev"}, {"f1": 0.5})

    manifest = argosy.json("manifest", "create", "-n", "iris", "-i", "iris:1", *recipe.options())
    assert [pin["version"] for pin in manifest["recipe"]["models"]] == [1]
    assert "--hash=sha256:" in manifest["recipe"]["lock"]["text"]
    image = argosy.json("image", "create", "-n", "iris", "--manifest", "iris:1")
    assert (image["manifest"], image["version"]) == ("iris:1", 1)
    again = argosy.ok("image", "create", "-n", "iris", "--manifest", "iris:1", "-o", "json")
    assert "Building" not in again.err, "the environment is there already"
    service = argosy.json("service", "create", "iris", "--image", "iris:1", "-z", "2")
    assert (service["state"], service["replicas_ready"], service["image"]) == ("healthy", 2, "iris:1")
    assert argosy.json("service", "run", "iris") == [2.0, 4.0]

    used = {m["version"]: m["used_by"] for m in argosy.json("model", "show", "iris")}
    assert used[2] == {"manifests": [], "images": [], "services": [], "revisions": []}
    assert used[1]["manifests"] == ["iris:1"]
    assert used[1]["services"] == ["iris"]
    assert used[1]["revisions"] == ["iris/1"]
    assert "iris:1" in used[1]["images"]

    assert "service iris" in argosy.fails("model", "delete", "iris:1", "--yes")
    assert "image iris:1" in argosy.fails("manifest", "delete", "iris:1", "--yes")
    assert "iris/1" in argosy.fails("image", "delete", "iris:1", "--yes")
    argosy.ok("service", "delete", "iris", "--yes")
    for image in argosy.json("image", "list"):
        if image["name"] == "iris":
            argosy.ok("image", "delete", f"iris:{image['version']}", "--yes")
    argosy.ok("manifest", "delete", "iris:1", "--yes")
    argosy.ok("model", "delete", "iris:1", "--yes")
    assert [m["version"] for m in argosy.json("model", "show", "iris")] == [2]
    assert argosy.json("model", "register", recipe.model(4), "-n", "iris")["version"] == 3, "a number is never reused"


def test_all_four_steps_in_one_and_what_a_service_can_do(argosy: Argosy, recipe: RecipeFolder) -> None:
    service = argosy.json("service", "create", "iris2", "-m", recipe.model(2), *recipe.options())
    assert (service["models"], service["manifest"], service["image"]) == (["iris2:1"], "iris2:1", "iris2:1")
    keys = argosy.json("service", "keys", "iris2")

    after = argosy.json("service", "update", "iris2", "-m", recipe.model(5))
    assert (after["models"], after["live_revision"]) == (["iris2:2"], 2)
    assert (after["scoring_url"], argosy.json("service", "keys", "iris2")) == (service["scoring_url"], keys)
    assert argosy.json("service", "run", "iris2", "-d", '{"numbers": [2]}') == [10.0]

    assert argosy.json("service", "scale", "iris2", "-z", "2")["replicas_ready"] == 2
    assert argosy.json("service", "wait", "iris2", "--timeout-s", "60")["state"] == "healthy"
    assert argosy.json("service", "rollback", "iris2")["live_revision"] == 1
    assert argosy.json("service", "run", "iris2", "-d", '{"numbers": [2]}') == [4.0]
    assert argosy.json("service", "rollback", "iris2", "--to", "2")["live_revision"] == 2
    assert {r["number"]: r["state"] for r in argosy.json("service", "history", "iris2")} == {1: "stopped", 2: "live"}

    waiting = argosy.json("service", "update", "iris2", "--image", "iris2:1", "--no-wait")
    assert (waiting["kind"], waiting["subject"]) == ("service.update", "service/iris2")
    argosy.ok("service", "delete", "iris2", "--yes")
    assert "iris2" in argosy.fails("service", "show", "iris2")


def test_hot_settings_do_not_make_a_revision(argosy: Argosy, wine: str) -> None:
    before = argosy.json("service", "show", wine)
    after = argosy.json("service", "update", wine, "--max-queued-requests", "50", "--description", "hot")
    assert after["settings"]["max_queued_requests"] == 50
    assert (after["live_revision"], after["description"]) == (before["live_revision"], "hot")
    assert [r["pid"] for r in after["replicas"]] == [r["pid"] for r in before["replicas"]]


def test_limits_of_bodies_and_starts(argosy: Argosy, recipe: RecipeFolder) -> None:
    """What reaches running replicas does so at once; a replica's start is its revision's."""
    name = "limited"
    argosy.ok("service", "create", name, "-m", recipe.model(2), *recipe.options(), "--init-timeout-s", "300")
    url, key = argosy.json("service", "show", name)["scoring_url"], argosy.key(name)
    before = argosy.json("service", "show", name)["live_revision"]
    limits = ("--max-body-bytes", "40", "--overload-status", "503", "--log-level", "debug")
    after = argosy.json("service", "update", name, *limits)
    assert after["live_revision"] == before
    kept = {each: after["settings"][each] for each in ("max_body_bytes", "overload_status", "log_level")}
    assert kept == {"max_body_bytes": 40, "overload_status": 503, "log_level": "debug"}
    assert call(url, {"numbers": [1] * 40}, token=key).status == 413
    assert call(url, {"numbers": [1]}, token=key).status == 200
    after = argosy.json("service", "update", name, "--init-timeout-s", "50", "--max-body-bytes", "20000000")
    assert (after["live_revision"], after["settings"]["init_timeout_s"]) == (before + 1, 50)
    for words in (("--overload-status", "418"), ("--log-level", "loud"), ("--max-body-bytes", "0")):
        assert words[1] in argosy.fails("service", "update", name, *words)
    argosy.ok("service", "delete", name, "--yes")


def test_a_manifest_renewed_for_a_new_model(argosy: Argosy, recipe: RecipeFolder) -> None:
    argosy.ok("model", "register", recipe.model(2), "-n", "renew")
    old = argosy.json("manifest", "create", "-n", "renew", "-i", "renew:1", *recipe.options(), "-e", "A=1")
    argosy.ok("model", "register", recipe.model(3), "-n", "renew")
    new = argosy.json("manifest", "create", "--from", "renew:1", "-i", "renew:2")
    assert (new["name"], new["version"]) == ("renew", 2)
    assert [pin["version"] for pin in new["recipe"]["models"]] == [2]
    assert new["recipe"] | {"models": []} == old["recipe"] | {"models": []}, "everything else is the same"
    assert new["digest"] != old["digest"]


def test_run_takes_its_data_in_every_way(argosy: Argosy, wine: str, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"numbers": [7]}')
    assert argosy.json("service", "run", wine) == [2.0, 4.0], "the stored sample"
    assert argosy.json("service", "run", wine, "-d", '{"numbers": [1, 2.5]}') == [2.0, 5.0]
    assert argosy.ok("service", "run", wine, "-d", "@request.json", cwd=tmp_path).json == [14.0]
    assert typed(argosy, f"argosy service run {wine} -d -", '{"numbers": [8]}').json == [16.0]
    assert "nowhere.json" in argosy.fails("service", "run", wine, "-d", "@nowhere.json")


def test_the_curl_line_of_usage_works_when_pasted(argosy: Argosy, wine: str, require: Require) -> None:
    require("curl")
    usage = argosy.json("service", "usage", wine)
    text = argosy.ok("service", "usage", wine).out
    line = next(line for line in text.splitlines() if line.lstrip().startswith("curl "))
    assert line.strip() == usage["curl"]
    assert typed(argosy, line).json == [2.0, 4.0]
    assert typed(argosy, usage["cli"]).json == [2.0, 4.0]
    assert typed(argosy, f"{usage['keys_command']} -o json").json == argosy.json("service", "keys", wine)
    assert typed(argosy, usage["logs_command"]).code == 0
    key = argosy.key(wine)
    assert key not in text, "keys are shown by `keys` alone"
    assert call(usage["swagger_url"], token=key).json["swagger"] == "2.0"
    assert b"<html" in call(usage["docs_url"], token=key).content


def test_usage_quotes_a_sample_that_a_shell_would_read(
    argosy: Argosy, recipe: RecipeFolder, require: Require, tmp_path: Path
) -> None:
    require("curl")
    words = ["it's", 'a "quote"', "$HOME `id` \\ é 日本", "!x & | ;\n"]
    (tmp_path / "sample.json").write_text(json.dumps({"words": words}))
    (tmp_path / "score.py").write_text("import json\ndef run(body):\n    return json.loads(body)['words']\n")
    argosy.ok(
        *("service", "create", "quoted", "-f", tmp_path / "score.py", "--sample", tmp_path / "sample.json"),
        *("-m", recipe.model(2), "-p", recipe.folder / "requirements.txt"),
    )
    usage = argosy.json("service", "usage", "quoted")
    assert typed(argosy, usage["curl"]).json == words
    assert typed(argosy, usage["cli"]).json == words


def test_keys(argosy: Argosy, wine: str) -> None:
    keys = argosy.json("service", "keys", wine)
    assert keys["primary"] != keys["secondary"]
    url = argosy.json("service", "show", wine)["scoring_url"]
    for which in ("primary", "secondary"):
        shown = argosy.ok("service", "keys", wine, "--show", which).out
        assert shown == f"{keys[which]}\n", "nothing else, so that $(...) can take it"
        assert call(url, {"numbers": [1]}, token=keys[which]).status == 200
    new = argosy.json("service", "keys", wine, "--regenerate", "secondary")
    assert (new["primary"], new["secondary"] != keys["secondary"]) == (keys["primary"], True)
    assert call(url, {"numbers": [1]}, token=keys["secondary"]).status == 401


def test_logs_of_one_request(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = (
        "import logging, sys\n"
        "def init(): print('starting up')\n"
        "def run(numbers):\n"
        "    print('printed', numbers)\n"
        "    print('to stderr', file=sys.stderr)\n"
        "    logging.getLogger('mine').warning('logged %s', numbers)\n"
        "    return numbers\n"
    )
    argosy.ok("service", "create", "chatty", "-m", recipe.model(2), *recipe.options(script=script), "-z", "2")
    url, key = argosy.json("service", "show", "chatty")["scoring_url"], argosy.key("chatty")
    for number in range(1, 7):
        reply = call(url, {"numbers": [number]}, token=key, headers={"x-request-id": f"mine-{number}"})
        assert reply.headers["x-request-id"] == f"mine-{number}"
    records = _records(argosy.ok("service", "logs", "chatty", "-r", "mine-3", "-o", "json"))
    assert [r["message"] for r in records] == ["printed [3]", "to stderr", "logged [3]"]
    assert {r["request_id"] for r in records} == {"mine-3"}
    assert [r["logger"] for r in records] == ["stdout", "stderr", "mine"]
    text = argosy.ok("service", "logs", "chatty", "-r", "mine-3").out
    assert text.count("mine-3") == 3
    everything = _records(argosy.ok("service", "logs", "chatty", "-o", "json"))
    assert {f"mine-{n}" for n in range(1, 7)} <= {r["request_id"] for r in everything}
    assert any(r["message"] == "starting up" and not r["request_id"] for r in everything)
    assert len(argosy.ok("service", "logs", "chatty", "-n", "2").out.splitlines()) == 2
    assert argosy.ok("service", "logs", "chatty", "-r", "no-such-id").out == ""


def test_logs_are_followed(argosy: Argosy, wine: str) -> None:
    """The request is sent after the command has begun to follow."""
    url, key = argosy.json("service", "show", wine)["scoring_url"], argosy.key(wine)
    words = [sys.executable, "-m", "argosy.cli", "service", "logs", wine, "-f", "-r", "followed", "-o", "json"]
    follower = subprocess.Popen(words, env=argosy.environ, stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.wait(0.3):
            call(url, {"numbers": [1, 2, 3]}, token=key, headers={"x-request-id": "followed"})

    caller = threading.Thread(target=keep_asking, daemon=True)
    caller.start()
    try:
        seen = [json.loads(follower.stdout.readline()) for _ in range(3)]
    finally:
        stop.set()
        caller.join()
        follower.terminate()
        follower.wait(20)
        follower.stdout.close()
    assert {r["message"] for r in seen} == {"scoring 3"}
    assert {r["request_id"] for r in seen} == {"followed"}


LOOKING = (
    ("status",),
    ("version",),
    ("model", "list"),
    ("model", "show", "wine"),
    ("model", "show", "wine:1"),
    ("manifest", "list"),
    ("manifest", "show", "wine"),
    ("image", "list"),
    ("image", "show", "wine:1"),
    ("env", "list"),
    ("env", "show", "local"),
    ("service", "list"),
    ("service", "show", "wine"),
    ("service", "usage", "wine"),
    ("service", "keys", "wine"),
    ("service", "history", "wine"),
    ("service", "wait", "wine"),
    ("service", "run", "wine"),
)


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
@pytest.mark.usefixtures("wine")
def test_every_look_as_table_json_and_yaml(argosy: Argosy, command: tuple[str, ...]) -> None:
    as_json = argosy.json(*command)
    assert _lasting(yaml.safe_load(argosy.ok(*command, "-o", "yaml").out)) == _lasting(as_json)
    table = argosy.ok(*command).out
    assert table.strip()
    assert "{'" not in table, "no Python in what people read"


def _lasting(value: Any) -> Any:
    """Without what changes from one moment to the next."""
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in ("uptime_s", "updated_at")}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


def test_aliases(argosy: Argosy, recipe: RecipeFolder) -> None:
    for factor in (2, 3):
        argosy.ok("model", "register", recipe.model(factor), "-n", "alias-model")
    argosy.ok("model", "alias", "alias-model:1", "production")
    assert argosy.json("model", "show", "alias-model@production")["version"] == 1
    argosy.ok("service", "create", "aliased", "-i", "alias-model@production", *recipe.options())
    assert argosy.json("service", "show", "aliased")["models"] == ["alias-model:1"]
    argosy.ok("model", "alias", "alias-model:2", "production")
    assert {m["version"]: m["aliases"] for m in argosy.json("model", "show", "alias-model")} == {
        2: ["production"],
        1: [],
    }
    assert argosy.json("service", "show", "aliased")["models"] == ["alias-model:1"], "a manifest freezes the version"
    argosy.ok("service", "update", "aliased", "-i", "alias-model@production")
    assert argosy.json("service", "run", "aliased", "-d", '{"numbers": [1]}') == [3.0]
    argosy.ok("model", "alias", "alias-model", "production", "--remove")
    assert "production" in argosy.fails("model", "show", "alias-model@production")


def test_tags_and_descriptions_change_and_content_does_not(argosy: Argosy, recipe: RecipeFolder) -> None:
    argosy.ok("model", "register", recipe.model(2), "-n", "tagged", "-t", "stage=dev", "-t", "owner=ann")
    argosy.ok("model", "tag", "tagged:1", "stage=prod", "--remove", "owner", "-d", "the first", "--metric", "f1=0.75")
    shown = argosy.json("model", "show", "tagged:1")
    assert (shown["tags"], shown["description"], shown["metrics"]) == ({"stage": "prod"}, "the first", {"f1": 0.75})
    assert [m["name"] for m in argosy.json("model", "list", "-t", "stage=prod")] == ["tagged"]
    assert argosy.json("model", "list", "-t", "stage=dev", "-t", "owner=ann") == []


def test_downloads_are_verified(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    model = recipe.model(31)
    entry = argosy.json("model", "register", model, "-n", "fetched")["files"][0]
    assert argosy.json("model", "download", "fetched:1", "--target", tmp_path) == [str(tmp_path / "model.joblib")]
    assert (tmp_path / "model.joblib").read_bytes() == model.read_bytes()
    assert entry["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert "model.joblib" in argosy.fails("model", "download", "fetched", "--target", tmp_path)
    argosy.ok("model", "download", "fetched", "--target", tmp_path, "--overwrite")

    blob = next(path for path in argosy.home.joinpath("blobs").rglob("*") if path.name == entry["sha256"])
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    target = tmp_path / "tampered"
    target.mkdir()
    assert "SHA-256" in argosy.fails("model", "download", "fetched:1", "--target", target, code=2)
    assert list(target.iterdir()) == [], "whole or not at all"


def test_a_directory_is_a_model_too(argosy: Argosy, tmp_path: Path) -> None:
    (tmp_path / "net" / "weights").mkdir(parents=True)
    (tmp_path / "net" / "config.json").write_text("{}")
    (tmp_path / "net" / "weights" / "1.bin").write_bytes(bytes(range(256)))
    model = argosy.json("model", "register", tmp_path / "net", "-n", "folder")
    assert [f["path"] for f in model["files"]] == ["net/config.json", "net/weights/1.bin"]
    argosy.ok("model", "download", "folder:1", "--target", tmp_path / "back")
    assert (tmp_path / "back" / "net" / "weights" / "1.bin").read_bytes() == bytes(range(256))


def test_environments(argosy: Argosy, recipe: RecipeFolder) -> None:
    assert argosy.json("env", "create", "staging", "--kind", "process")["kind"] == "process"
    assert {e["name"] for e in argosy.json("env", "list")} == {"local", "staging"}
    argosy.ok("service", "create", "staged", "-m", recipe.model(2), *recipe.options(), "--env", "staging")
    assert argosy.json("env", "show", "staging")["services"] == ["staged"]
    assert argosy.json("service", "show", "staged")["environment"] == "staging"
    assert "staged" in argosy.fails("env", "delete", "staging", "--yes")
    argosy.ok("service", "delete", "staged", "--yes")
    argosy.ok("env", "delete", "staging", "--yes")
    assert "staging" in argosy.fails("env", "show", "staging")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(argosy: Argosy, shell: str, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(argosy.ok("completion", shell).out)
    assert "rollback" in script.read_text()
    if shell == "bash":
        assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""
        asked = f"source {script}; COMP_WORDS=(argosy ser); COMP_CWORD=1; COMP_LINE='argosy ser'; "
        words = (
            f"{asked} $(complete -p argosy | sed 's/.*-F \\([^ ]*\\).*/\\1/') argosy ser argosy; echo ${{COMPREPLY[@]}}"
        )
        assert typed(argosy, words).out.split() == ["server", "serve", "service"]


def _records(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture(scope="module", autouse=True)
def _nothing_broke(argosy: Argosy) -> Iterator[None]:
    yield
    assert "Traceback" not in (argosy.home / "logs" / "control-plane.log").read_text()
