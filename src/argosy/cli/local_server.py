"""The scoring server of a script in this Python: an image folder in a temporary place, and a replica that serves it.

The replica is a child of ours in a session of its own, so that Ctrl-C reaches it as a drain and not as a signal that
everybody in the terminal gets. Its log comes through a pipe.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.errors import InvalidFile, InvalidSchema, PortInUse
from argosy.keys import key_hash
from argosy_serving.schema import InvalidSchemaFile, parse_schema, sample_from_schema

HOST = "127.0.0.1"
_SERVICE = "local"


@dataclass(frozen=True)
class Recipe:
    """What is served, as paths and values that were given. `key` "" means that none is needed."""

    script: Path
    models: Sequence[Path]
    files: Sequence[Path] = ()
    schema: Path | None = None
    samples: Sequence[Path] = ()
    key: str = ""
    serving: Mapping[str, str | int] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    def watched(self) -> list[Path]:
        given = [self.script, *self.models, *self.files, *self.samples, *([self.schema] if self.schema else [])]
        return [inner for path in given for inner in ([path, *sorted(path.rglob("*"))] if path.is_dir() else [path])]

    def stamp(self) -> dict[str, tuple[int, int, int]]:
        """Changes when a watched file does."""
        found = {}
        for path in self.watched():
            with contextlib.suppress(OSError):
                status = path.stat()
                found[str(path)] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found


def free_port(port: int) -> int:
    """The port itself, or one that is free for 0. Raises PortInUse."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as problem:
            raise PortInUse(HOST, port, "--port") from problem
        return int(probe.getsockname()[1])


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as problem:
        raise InvalidFile(path, f"cannot be read: {problem.strerror or problem}.") from problem
    except (ValueError, RecursionError) as problem:
        raise InvalidFile(path, f"is not valid JSON: {problem}.") from problem


def samples_of(recipe: Recipe) -> list[dict[str, Any]]:
    """As a manifest has them: those that were given, else the one that the schema makes."""
    given = []
    for path in recipe.samples:
        content = read_json(path)
        whole = isinstance(content, dict) and {"input", "output"} <= set(content) <= {"input", "output", "tolerance"}
        given.append(content if whole else {"input": content})
    if given or recipe.schema is None:
        return given
    try:
        return [{"input": sample_from_schema(parse_schema(read_json(recipe.schema)))}]
    except InvalidSchemaFile as problem:
        raise InvalidSchema(problem.pointer, problem.problem) from None


def lay_out(folder: Path, recipe: Recipe, port: int) -> Path:
    """An image and a run folder below `folder`, which is emptied; the path of spec.json."""
    for path in (recipe.script, *recipe.models, *recipe.files):
        if not path.exists():
            raise InvalidFile(path, "does not exist.")
    image = folder / "image"
    shutil.rmtree(image, ignore_errors=True)
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    (image / "code").mkdir(parents=True)
    shutil.copyfile(recipe.script, image / "code" / recipe.script.name)
    for path in recipe.files:
        (image / "code" / path.name).symlink_to(path.resolve())
    models = []
    (image / "models").mkdir()
    for path, name in model_names(recipe.models).items():
        place = image / "models" / name / "1"
        place.mkdir(parents=True)
        # Linked, since models are large. Registered ones are read-only copies.
        (place / path.name).symlink_to(path.resolve())
        models.append({"name": name, "version": 1, "kind": "directory" if path.is_dir() else "file", "files": []})
    description = {
        "digest": _SERVICE,
        "manifest": _SERVICE,
        "models": models,
        "script": recipe.script.name,
        "schema": read_json(recipe.schema) if recipe.schema else None,
        "samples": samples_of(recipe),
        "serving": dict(recipe.serving),
        "environment": {},
    }
    settings = {"generation": 1, "auth": bool(recipe.key), "keys": [key_hash(recipe.key)] if recipe.key else []}
    spec = {
        "id": f"{_SERVICE}-1",
        "service": _SERVICE,
        "revision": 1,
        "image": str(image),
        "listen": {"host": HOST, "port": port},
        "failure": str(folder / "failure.json"),
        "scratch": str(folder / "scratch"),
        "settings": str(folder / "settings.json"),
        "init_timeout_s": 24 * 3600.0,
    }
    (image / "image.json").write_text(json.dumps(description))
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder / "spec.json"


def model_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each model, as a registered one would have: from the file's name, told apart by a number."""
    named: dict[Path, str] = {}
    for path in paths:
        stem = re.sub(r"[^a-z0-9.]+", "-", path.name.partition(".")[0].lower()).strip("-.")[:50] or "model"
        name, number = stem, 1
        while name in named.values():
            number += 1
            name = f"{stem}-{number}"
        named[path] = name
    return named


class Server:
    """One replica process. `stop` drains it; a second call cuts the drain short."""

    def __init__(self, spec: Path, recipe: Recipe, environ: Mapping[str, str]) -> None:
        image = spec.parent / "image"
        models = image / "models"
        names = list(model_names(recipe.models).values())
        own = {
            "ARGOSY_MODEL_DIR": str(models),
            "AZUREML_MODEL_DIR": str(models / names[0] / "1" if len(names) == 1 else models),
            "SERVICE_NAME": _SERVICE,
        }
        self.failure = spec.parent / "failure.json"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "argosy_serving", str(spec)],
            cwd=spec.parent,
            env={**environ, **own, **recipe.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def lines(self) -> Iterator[str]:
        """The log as it is written, until the process ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.decode(errors="replace").rstrip("\n")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def reason(self) -> str:
        """Why it could not become ready, as it says itself."""
        try:
            return str(json.loads(self.failure.read_text())["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return f"The server ended by itself with exit code {self.process.returncode}."

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Whatever the replica left in its session too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def readable(line: str) -> str:
    """A log line for people: the time of day, where it comes from, the text, a traceback below it."""
    try:
        entry = json.loads(line)
        clock, level, logger = str(entry["timestamp"])[11:19], str(entry["level"]), str(entry["logger"])
        message = str(entry["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return line
    source = logger if logger in ("stdout", "stderr") else level if logger == "argosy" else f"{level} {logger}"
    request = f"  [{entry['request_id']}]" if entry.get("request_id") else ""
    text = f"{clock} {source}: {message}{request}"
    return f"{text}\n{str(entry['exception']).rstrip()}" if entry.get("exception") else text
