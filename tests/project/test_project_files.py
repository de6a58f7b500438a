"""What the project says of itself: licence, names, lock, targets, settings."""

import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import argosy


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, object]:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def locked(root: Path) -> dict[str, str]:
    """Package to version, as requirements.lock pins them."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (root / "requirements.lock").read_text(), re.MULTILINE))


def requirements(pyproject: dict[str, object]) -> list[Requirement]:
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    assert isinstance(project, dict)
    assert isinstance(groups, dict)
    grouped = [line for group in groups.values() for line in group if isinstance(line, str)]
    return [Requirement(line) for line in [*project["dependencies"], *grouped]]


def test_the_licence_is_apache_and_the_served_parts_are_named(root: Path) -> None:
    assert "Apache License" in (root / "LICENSE").read_text()
    assert "Swagger UI" in (root / "NOTICE").read_text()


def test_no_file_names_where_it_was_written(project_files: list[Path], root: Path) -> None:
    """Neither this checkout nor its owner's Pythons; and the lock holds for any package index."""
    places = [f"{root}/".encode(), f"{Path.home()}/.pyenv".encode()]
    found = [(path.name, place) for path in project_files for place in places if place in path.read_bytes()]
    assert found == []
    assert "://" not in (root / "requirements.lock").read_text()


def test_no_file_holds_something_left_to_do(project_files: list[Path]) -> None:
    marks = re.compile(rb"\b(TO" + rb"DO|FIX" + rb"ME|XX" + rb"X)\b")
    sources = [
        path for path in project_files if path.suffix in (".py", ".md", ".sh", ".toml") or path.name == "Makefile"
    ]
    assert [path.name for path in sources if marks.search(path.read_bytes())] == []


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert argosy.__all__ == sorted(argosy.__all__)
    for name in argosy.__all__:
        assert getattr(argosy, name) is not None


def test_the_package_and_the_project_file_have_one_version(pyproject: dict[str, object]) -> None:
    project = pyproject["project"]
    assert isinstance(project, dict)
    assert argosy.__version__ == project["version"]


def test_the_lock_holds_every_requirement_with_hashes(
    root: Path, pyproject: dict[str, object], locked: dict[str, str]
) -> None:
    for requirement in requirements(pyproject):
        assert requirement.specifier.contains(Version(locked[requirement.name]), prereleases=True), requirement
    text = (root / "requirements.lock").read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert len(entries) == len(locked)
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def conda_pins(path: Path) -> dict[str, str]:
    listed = yaml.safe_load(path.read_text())["dependencies"]
    pip = [line for entry in listed if isinstance(entry, dict) for line in entry["pip"]]
    conda = [line for entry in listed if isinstance(entry, str) and entry != "pip" for line in [entry]]
    return dict(re.split("=+", line) for line in [*conda, *pip])


@pytest.mark.parametrize("name", ["diabetes", "digits", "iris", "text"])
def test_the_examples_serve_with_the_versions_that_they_trained_with(
    root: Path, locked: dict[str, str], name: str
) -> None:
    pins = conda_pins(root / "examples" / name / "conda.yml")
    assert pins == {package: locked[package] for package in pins}
    assert "scikit-learn" in pins


def test_the_settings_page_is_the_table_of_the_source(root: Path) -> None:
    page = runpy.run_path(str(root / "tools" / "settings_page.py"))
    assert page["PAGE"].read_text() == page["render"](), "run `make docs`"


def test_every_make_target_says_what_it_does(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split())  # type: ignore[union-attr]
    described = set(re.findall(r"^([a-z]+):.*## \S", makefile, re.MULTILINE))
    assert targets == phony == described
    assert {"demo", "test", "lint", "lock", "clean"} <= targets


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in the project's wheel, built for real."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_the_wheel_holds_all_that_the_source_holds(root: Path, wheel: set[str]) -> None:
    source = root / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert wanted <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_every_link_of_the_pages_leads_somewhere(project_files: list[Path]) -> None:
    broken = [
        (page.name, target)
        for page in project_files
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
