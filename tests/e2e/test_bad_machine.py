"""A machine that does not play along: a full disk, a home that cannot be written, a home that was damaged."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.calls import call
from e2e.running import Argosy, RecipeFolder

Mount = Callable[[str], Argosy]


@pytest.fixture
def mount(shared_environments: Path) -> Iterator[Mount]:
    """`mount("size=20m")`: an Argosy whose home is a file system of its own with these options."""
    homes: list[Argosy] = []

    def make(options: str) -> Argosy:
        home = Path(tempfile.mkdtemp(prefix="argosy-e2e-"))
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(home)], capture_output=True, text=True
        )
        if done.returncode:
            home.rmdir()
            pytest.skip("needs the right to mount a file system of its own: run the tests as root")
        homes.append(Argosy(home))
        if "ro" not in options.split(","):
            (home / "envs").symlink_to(shared_environments)
        return homes[-1]

    yield make
    for argosy in homes:
        argosy("down")
        for process in argosy.processes():
            process.kill()
        subprocess.run(["umount", "-l", str(argosy.home)], check=True)
        argosy.home.rmdir()


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(65_536))
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as out:
        while True:
            out.write(b"x")
    assert shutil.disk_usage(folder).free == 0
    return filler


def test_a_full_disk(mount: Mount, recipe: RecipeFolder, tmp_path: Path) -> None:
    """Each command says so, nothing is half-registered, services answer on; with room again all goes on."""
    argosy = mount("size=30m")
    argosy.up()
    argosy.ok("service", "create", "steady", "-m", recipe.model(2), *recipe.options())
    url, key = argosy.json("service", "show", "steady")["scoring_url"], argosy.key("steady")
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(40_000_000))
    said = argosy.fails("model", "register", large, "-n", "large", code=2)
    assert "No space left on device" in said

    filler = fill(argosy.home)
    small = tmp_path / "small.bin"
    small.write_bytes(os.urandom(200_000))
    for words in (
        ("model", "register", small, "-n", "small"),
        ("manifest", "create", "--from", "steady:1", "-n", "other", "-f", recipe.folder / "score.py", "-e", "A=1"),
    ):
        done = argosy(*words)
        if done.code:
            # A few bytes may still fit into a block that is already taken.
            assert done.code == 2, done.err
            assert "No space left on device" in done.err or "disk" in done.err
        assert "Traceback" not in done.err and "defect" not in done.err
    assert [m["name"] for m in argosy.json("model", "list")] == ["steady"]
    for _ in range(20):
        assert call(url, {"numbers": [1]}, token=key).json == [2.0]
    assert argosy.json("service", "show", "steady")["state"] == "healthy"
    checks = {c["name"]: c["state"] for c in argosy.json("doctor")["checks"]}
    assert checks["disk"] != "ok"

    filler.unlink()
    argosy.ok("model", "register", small, "-n", "small")
    argosy.ok("service", "update", "steady", "-m", recipe.model(3))
    assert argosy.json("service", "run", "steady", "-d", '{"numbers": [1]}') == [3.0]
    leftovers = [p for p in (argosy.home / "blobs").rglob("*") if p.is_file() and p.stat().st_size >= 1_000_000]
    assert leftovers == [], "what did not fit was removed"
    log = (argosy.home / "logs" / "control-plane.log").read_text()
    assert "Traceback" not in log


def test_starting_on_a_full_disk(mount: Mount) -> None:
    argosy = mount("size=1m")
    filler = fill(argosy.home)
    said = argosy.fails("up", "--port", "0", "--gateway-port", "0", code=2)
    assert "No space left" in said or "space" in said
    assert argosy.processes() == []
    filler.unlink()
    argosy.up()


def test_a_read_only_home(mount: Mount) -> None:
    argosy = mount("size=1m,ro")
    said = argosy.fails("up", "--port", "0", "--gateway-port", "0", code=2)
    assert str(argosy.home) in said
    assert "Read-only" in said and "ARGOSY_HOME" in said
    assert argosy("status").code == 0
    assert argosy.ok("down").code == 0


def test_a_home_that_is_no_folder(fresh: Argosy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/argosy")):
        said = Argosy(home).fails("up", "--port", "0", "--gateway-port", "0", code=2)
        assert str(home) in said
        assert "ARGOSY_HOME" in said


@pytest.mark.parametrize("name", ["token", "master.key", "argosy.db", "address.json", "lock", "run"])
def test_a_damaged_home(fresh: Argosy, name: str) -> None:
    """Garbage in the place of each file: a clear message, or mended; never a half-start."""
    fresh.up()
    fresh.ok("down")
    path = fresh.home / name
    if path.is_dir():
        path.chmod(0o755)
    else:
        path.write_bytes(b"\0garbage that nobody wrote\xff")
    done = fresh("up", "--port", "0", "--gateway-port", "0")
    assert "Traceback" not in done.out + done.err
    assert "defect" not in done.err
    assert done.code in (0, 2)
    if done.code:
        assert name in done.err or str(fresh.home) in done.err
        assert [words for words in fresh.commands() if "argosy.server" in words] == []
