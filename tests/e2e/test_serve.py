"""`argosy serve`: the scoring server alone, in this Python."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.calls import call
from e2e.running import Argosy, RecipeFolder

WAIT_S = 60.0


class Serving:
    """A running `argosy serve`, with its output in files."""

    def __init__(self, folder: Path, argosy: Argosy, *options: object) -> None:
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        words = [sys.executable, "-m", "argosy.cli", "serve", *map(str, options), "--port", "0"]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(words, env=argosy.environ, cwd=folder, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_for(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < until and self.process.poll() is None, f"{self.out}\n{self.err}"
            time.sleep(0.05)

    def url(self, start: int = 1) -> str:
        """Where it answers, once it has said so for the `start`-th time."""
        self.wait_for(lambda: self.out.count("Scoring ") >= start and self.out.endswith("/score\n"))
        return str(re.findall(r"^Scoring +(\S+)$", self.out, re.MULTILINE)[-1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(WAIT_S)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def begin(*options: object) -> Serving:
        started.append(Serving(tmp_path, Argosy(tmp_path / "home"), *options))
        return started[-1]

    yield begin
    for serving in started:
        if serving.process.poll() is None:
            serving.stop()


@pytest.mark.shows(
    "The local loop",
    "`argosy serve`",
    "`argosy serve score.py -m model.joblib -s schema.json`, its `curl` line",
)
def test_it_serves_like_an_image_and_drains(serve: Callable[..., Serving], recipe: RecipeFolder) -> None:
    folder = recipe.folder
    serving = serve(folder / "score.py", "-m", recipe.model(3), "-s", folder / "schema.json")
    url = serving.url()
    assert call(url, {"numbers": [2]}).json == [6.0]
    refused = call(url, {"numbers": "x"})
    assert (refused.status, refused.error["code"]) == (400, "invalid_input")
    line = re.findall(r"^Try it +(.+)$", serving.out, re.MULTILINE)[0]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [3.0, 6.0], "the sample of the schema"
    serving.wait_for(lambda: serving.err.count("stdout: scoring 2") >= 2)
    assert re.search(r"stdout: scoring 1  \[[0-9a-f]+\]$", serving.err, re.MULTILINE), "with the request's id"
    assert serving.stop() == 0
    assert "ends with exit code 0" in serving.err


@pytest.mark.shows(
    "The local loop",
    "`argosy serve --key`",
    "401 without it",
)
def test_a_key(serve: Callable[..., Serving], recipe: RecipeFolder) -> None:
    folder = recipe.folder
    serving = serve(folder / "score.py", "-m", recipe.model(3), "-s", folder / "schema.json", "--key", "k 1")
    url = serving.url()
    assert call(url, {"numbers": [2]}).status == 401
    assert call(url, {"numbers": [2]}, token="k 1").json == [6.0]
    assert "Authorization: Bearer k 1" in serving.out


@pytest.mark.shows(
    "The local loop",
    "`argosy serve --reload`",
    "script, model, and mistakes",
)
def test_reload_follows_script_model_and_mistakes(
    serve: Callable[..., Serving], recipe: RecipeFolder, tmp_path: Path
) -> None:
    script, model = tmp_path / "score.py", tmp_path / "model.joblib"
    script.write_text((recipe.folder / "score.py").read_text())
    model.write_bytes(recipe.model(3).read_bytes())
    serving = serve(script, "-m", model, "-s", recipe.folder / "schema.json", "--reload")
    assert call(serving.url(), {"numbers": [2]}).json == [6.0]
    model.write_bytes(recipe.model(5).read_bytes())
    assert call(serving.url(2), {"numbers": [2]}).json == [10.0]
    working = script.read_text()
    script.write_text(working + "def run(numbers:\n")
    serving.wait_for(lambda: "Waiting for a change" in serving.err)
    assert "error: SyntaxError" in serving.err
    script.write_text(working.replace("return [", "return [0.5, *["))
    serving.wait_for(lambda: serving.err.count("Waiting for a change") == 2)
    script.write_text(working.replace("* number", "* number + 1"))
    assert call(serving.url(3), {"numbers": [2]}).json == [11.0]
    assert serving.stop() == 0


def test_mistakes_without_reload(recipe: RecipeFolder, tmp_path: Path) -> None:
    argosy = Argosy(tmp_path)
    assert "does not exist" in argosy.fails("serve", recipe.folder / "score.py", "-m", "none.pkl", "--port", "0")
    broken = tmp_path / "score.py"
    broken.write_text("import no_such_module\ndef run(body): ...\n")
    done = argosy("serve", broken, "--port", "0")
    assert done.code == 1
    assert "error: ModuleNotFoundError: No module named 'no_such_module'" in done.err
    assert "(score.py, line 1" in done.err


def test_a_port_in_use(serve: Callable[..., Serving], recipe: RecipeFolder, tmp_path: Path) -> None:
    url = serve(recipe.folder / "score.py", "-m", recipe.model(3), "-s", recipe.folder / "schema.json").url()
    port = url.split(":")[2].split("/")[0]
    said = Argosy(tmp_path).fails("serve", recipe.folder / "score.py", "--port", port, code=2)
    assert f"Port {port} on 127.0.0.1 is in use" in said
