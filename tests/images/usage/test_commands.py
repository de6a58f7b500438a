"""The printed commands are typed, with programs in the place of the real ones that write down what they were given."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from argosy.images.usage.answer import usage
from argosy.images.usage.place import KEYS, Place

SECRET = "line one\nline two of the token"
PROGRAMS = ("docker", "podman", "kubectl", "curl", "az", "argosy")
# A program that writes down its words, what it reads, and the content and mode of a file that it is given.
NOTING = f"""#!{sys.executable}
import json, os, sys
content = next((word for word in sys.argv if word == "deployment.json"), None)
note = {{
    "words": sys.argv,
    "read": "" if sys.stdin.isatty() else sys.stdin.read(),
    "key": os.environ["{KEYS}"],
    "token": os.environ["TOKEN"],
    "file": open(content).read() if content else "",
    "mode": os.stat(content).st_mode if content else 0,
}}
with open("notes", "a") as out:
    out.write(json.dumps(note) + "\\n")
if "iot-edge" in sys.argv:
    print("${{{KEYS}}}")
"""


class Desk:
    """Where commands are typed; what the programs noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name in PROGRAMS:
            (folder / "bin" / name).write_text(NOTING)
            (folder / "bin" / name).chmod(0o755)
        # It asks the environment, as the real one does; only names are its words.
        (folder / "bin" / "envsubst").write_text(f'#!/bin/sh\nsed "s/.*/${KEYS}/"\n')
        (folder / "bin" / "envsubst").chmod(0o755)

    def type(self, commands: list[str]) -> list[dict[str, Any]]:
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        exports = [line.replace("TOKEN=...", 'TOKEN="$GIVEN"') for line in commands]
        script = "\n".join(["set -e", "umask 022", *exports])
        environ = {**os.environ, "PATH": path, "GIVEN": SECRET}
        subprocess.run(["sh", "-c", script], cwd=self.folder, env=environ, check=True, stdin=subprocess.DEVNULL)
        return [json.loads(line) for line in (self.folder / "notes").read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def commands(kind: str, image: str = "registry.example.com/iris:1") -> list[str]:
    place = Place("iris", image, "linux/amd64", 5001, [KEYS, "TOKEN"], {"x": 1})
    return list(usage(place, "iris:1", []).commands[kind])


@pytest.mark.parametrize("kind", ["docker", "podman", "compose", "kubernetes", "iot-edge"])
def test_no_value_is_in_the_words_of_a_command_or_stays_in_a_file(desk: Desk, kind: str) -> None:
    notes = desk.type(commands(kind))
    key = notes[0]["key"]
    assert len(key) == 64 and notes[0]["token"] == SECRET
    for note in notes:
        assert not [word for word in note["words"] if key in word or SECRET in word]
    for path in desk.folder.iterdir():
        assert path.name == "notes" or path.is_dir() or key not in path.read_text()


def test_the_request_has_its_key(desk: Desk) -> None:
    asked = desk.type(commands("podman"))[-1]
    assert asked["words"][1:3] == ["-H", "@-"] and asked["read"] == f"Authorization: Bearer {asked['key']}"


def test_the_secret_is_made_of_the_names_of_variables(desk: Desk) -> None:
    made = next(note for note in desk.type(commands("kubernetes")) if "secret" in note["words"])
    assert made["words"][1:] == ["create", "secret", "generic", "iris-variables", "--from-env-file=/dev/stdin"]
    assert made["read"] == f"{KEYS}\nTOKEN\n" and made["token"] == SECRET


def test_the_file_with_values_is_its_owners_alone(desk: Desk) -> None:
    (desk.folder / "deployment.json").touch(0o644)
    sent = next(note for note in desk.type(commands("iot-edge")) if "set-modules" in note["words"])
    assert sent["key"] in sent["file"] and stat.S_IMODE(sent["mode"]) == 0o600
    assert not (desk.folder / "deployment.json").exists()
