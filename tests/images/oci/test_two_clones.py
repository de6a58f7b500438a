"""One digest anywhere: two clones of this project build the same image in processes that have nothing in common."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from manifests.package_index import PackageIndex

PROJECT = Path(__file__).parents[3]
BUILD = """
import json, os, sys
from pathlib import Path
from types import SimpleNamespace

os.umask(int(sys.argv[3], 8))
import argosy, argosy_serving
from images.oci.house import House
from images.oci.images import make_index

home, url = Path(sys.argv[1]), sys.argv[2]
house = House(home, SimpleNamespace(url=url))
code = (("score.py", b"def run(x): return x\\n"), ("\\u00e9", b"e"))
files = [house.shelf.file(path, content) for path, content in code]
manifest = house.manifest(files=files, schema={"input": {}}, environment={"B": "2", "A": "1"})
image = house.build(manifest, make_index(home / "base"), ["linux/amd64", "linux/arm64"])
print(json.dumps({
    "oci": image.oci,
    "index": house.layout.tags()[image.reference].digest,
    "attached": sorted(entry.digest for entry in house.layout.attached()),
    "from": [argosy.__file__, argosy_serving.__file__],
}))
"""


def built(folder: Path, url: str, umask: str, mode: int, **variables: str) -> dict[str, Any]:
    """What a process makes whose code is a copy of this project's, in files with that mode."""
    clone = folder / "clone"
    for part in ("src", "tests"):
        shutil.copytree(PROJECT / part, clone / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in clone.rglob("*.py"):
        path.chmod(mode)
        os.utime(path, (mode, mode))
    own = {name: str(folder / name) for name in ("HOME", "TMPDIR", "UV_CACHE_DIR", "XDG_CACHE_HOME")}
    for place in own.values():
        Path(place).mkdir()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{clone / 'src'}:{clone / 'tests'}", **own, **variables}
    words = [sys.executable, "-c", BUILD, str(folder / "home"), url, umask]
    done = subprocess.run(words, cwd=clone, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert all(Path(file).is_relative_to(clone) for file in found.pop("from")), "its own code ran"
    return found


def test_two_clones_build_one_digest(index: PackageIndex, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "a-much-longer-place"
    one.mkdir()
    other.mkdir()
    first = built(one, index.url, "022", 0o644, TZ="Pacific/Kiritimati", LC_ALL="C", PYTHONHASHSEED="1")
    more = {"TZ": "America/New_York", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1"}
    second = built(other, index.url, "077", 0o600, **more)
    assert set(first["oci"]) == {"linux/amd64", "linux/arm64"} and len(first["attached"]) == 4
    assert first == second
