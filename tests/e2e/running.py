"""A whole Argosy in a home of its own, driven by the real command line."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SCORE = """
import joblib

def init():
    global model
    model = joblib.load("model.joblib")

def run(numbers):
    print("scoring", len(numbers))
    return [model["factor"] * number for number in numbers]
"""

SCHEMA = {
    "input": {
        "numbers": {
            "type": "standard",
            "swagger": {"type": "array", "items": {"type": "number"}, "example": [1.0, 2.0]},
        }
    }
}

REQUIREMENTS = "joblib\n"


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Argosy:
    """The command line of one home."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ARGOSY_")}
        return kept | {"ARGOSY_HOME": str(self.home), **self.variables}

    def __call__(self, *arguments: object, cwd: Path | None = None, timeout_s: float = 300) -> Done:
        """Run `argosy ARGUMENTS`, whatever comes of it."""
        done = subprocess.run(
            [sys.executable, "-m", "argosy.cli", *map(str, arguments)],
            env=self.environ,
            cwd=cwd,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: object, cwd: Path | None = None) -> Done:
        """The same, and it must succeed."""
        done = self(*arguments, cwd=cwd)
        assert done.code == 0, f"argosy {' '.join(map(str, arguments))}: {done.code}\n{done.out}\n{done.err}"
        return done

    def fails(self, *arguments: object, code: int = 1, cwd: Path | None = None) -> str:
        """The same, and it must fail with this exit code and an error message, which is returned: never a traceback.

        Log lines of a replica that came with the error (`  | ...`) may hold one of the user's own script.
        """
        done = self(*arguments, cwd=cwd)
        assert done.code == code, f"argosy {' '.join(map(str, arguments))}: {done.code}\n{done.out}\n{done.err}"
        own = [line for line in (done.out + done.err).splitlines() if not line.startswith("  | ")]
        assert not any("Traceback" in line for line in own), done.err
        assert "defect" not in done.err, done.err
        assert any(line.startswith("error: ") for line in own), done.err
        return done.err

    def json(self, *arguments: object, cwd: Path | None = None) -> Any:
        return self.ok(*arguments, "-o", "json", cwd=cwd).json

    def up(self) -> Any:
        self.ok("up", "--port", "0", "--gateway-port", "0")
        return self.address

    @property
    def address(self) -> Any:
        return json.loads((self.home / "address.json").read_text())

    def key(self, service: str, slot: str = "primary") -> str:
        return str(self.json("service", "keys", service)[slot])

    def versions(self, manifest: str, *packages: str) -> str:
        """What a manifest runs with, of these: `Python 3.12, scikit-learn 1.8.0`."""
        lock = self.json("manifest", "show", manifest)["recipe"]["lock"]
        found = [f"{name} {lock['packages'][name]}" for name in packages if name in lock["packages"]]
        return ", ".join([f"Python {lock['python']}", *found])

    def processes(self) -> list[psutil.Process]:
        """Every living process that belongs to this home: by its environment or its command line."""
        mine = []
        for process in psutil.process_iter():
            try:
                home = process.environ().get("ARGOSY_HOME")
                words = " ".join(process.cmdline())
                if process.status() != psutil.STATUS_ZOMBIE and (home == str(self.home) or str(self.home) in words):
                    mine.append(process)
            except psutil.Error:
                continue
        return [p for p in mine if p.pid != os.getpid()]

    def commands(self) -> list[str]:
        """Their command lines; of one that ends meanwhile there is none."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(process.cmdline()))
        return found


class RecipeFolder:
    """A small model with everything that belongs to it: it multiplies numbers by a factor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "score.py").write_text(SCORE)
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
        (folder / "requirements.txt").write_text(REQUIREMENTS)

    def model(self, factor: float) -> Path:
        import joblib

        path = self.folder / f"factor-{factor}" / "model.joblib"
        path.parent.mkdir(exist_ok=True)
        joblib.dump({"factor": factor}, path)
        return path

    def options(self, script: str | None = None, schema: bool = True) -> list[str]:
        """Everything but the model."""
        path = self.folder / "score.py"
        if script is not None:
            path = Path(tempfile.mkdtemp(dir=self.folder)) / "score.py"
            path.write_text(script)
        options = ["-f", str(path), "-p", str(self.folder / "requirements.txt")]
        return [*options, "-s", str(self.folder / "schema.json")] if schema else options
