"""The commands in the README and in docs/ are run as they stand: every `sh` block, page after page, in one shell each.

Blocks marked `text` show output or what needs another machine, `python` blocks are run by the same Argosy.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.running import Argosy

ROOT = Path(__file__).parents[2]
# In the order of a model's journey, since a page may use what an earlier one made; then the rest.
JOURNEY = ["README.md", "docs/models.md", "docs/manifests.md", "docs/images.md", "docs/services.md"]
PAGES = [*JOURNEY, *sorted({f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - set(JOURNEY))]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(argosy: Argosy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples with a trained iris model, and one that was trained again."""
    place = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "examples", place / "examples")
    iris = place / "examples" / "iris"
    for folder in (iris, iris / "retrained"):
        folder.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "train.py", str(folder)], cwd=iris, check=True, capture_output=True)
    with (iris / "retrained" / "model.pkl").open("ab") as model:
        # Another training gives other bytes; unpickling stops before these.
        model.write(b"retrained")
    return place


def run(argosy: Argosy, script: str, place: Path, program: list[str]) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The README's `argosy up` finds what the fixture started, whose ports are free ones.
    return subprocess.run(
        [*program, script], cwd=place, env=argosy.environ | {"PATH": path}, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize("page", PAGES)
def test_page(argosy: Argosy, checkout: Path, page: str) -> None:
    script = "\n".join(blocks(page, "sh"))
    place = checkout if page == "README.md" else checkout / "examples" / "iris"
    done = run(argosy, script, place, ["bash", "-euo", "pipefail", "-c"])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/rest.md"])
def test_python(argosy: Argosy, checkout: Path, page: str) -> None:
    for source in blocks(page, "python"):
        done = run(argosy, source, checkout / "examples" / "iris", [sys.executable, "-c"])
        assert done.returncode == 0, done.stderr
        assert "iris" in done.stdout or "setosa" in done.stdout


def test_every_page_is_linked_and_every_link_leads_somewhere() -> None:
    linked = set()
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
            if "://" not in target:
                path = ((ROOT / page).parent / target).resolve()
                assert path.exists(), f"{page} links to {target}"
                linked.add(path)
    assert {(ROOT / page).resolve() for page in PAGES if page != "README.md"} <= linked
