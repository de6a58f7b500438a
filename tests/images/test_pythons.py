import stat
import sys
from pathlib import Path

import pytest

from argosy.errors import PythonNotFound
from argosy.images.pythons import Places, Python, find_python, inspect_python, list_pythons


def fake(path: Path, version: str, implementation: str = "CPython", level: str = "final", base: str = "") -> Path:
    """A program that answers like a Python of this version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho \'["{implementation}", "{version}", "{base}", "{level}"]\'\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def shim(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'pyenv: {path.name}: command not found' >&2\nexit 127\n")
    path.chmod(0o755)
    return path


def test_the_running_interpreter_is_found(base_python: Python) -> None:
    found = find_python("{}.{}".format(*sys.version_info[:2]))
    assert found.minor == base_python.minor
    assert found.path.exists()


def test_a_virtual_environment_is_followed_to_its_base(base_python: Python) -> None:
    assert base_python.version == sys.version.split()[0]
    assert not base_python.path.is_relative_to(sys.prefix) or sys.prefix == sys.base_prefix


def test_shims_that_only_complain_are_passed_over(tmp_path: Path) -> None:
    shim(tmp_path / "shims/python3.12")
    real = fake(tmp_path / "versions/3.12.1/bin/python3.12", "3.12.1")
    places = Places((tmp_path / "shims",), (tmp_path / "versions",))
    assert find_python("3.12", places) == Python(real, "3.12.1")


def test_the_highest_patch_level_wins(tmp_path: Path) -> None:
    for version in ("3.12.9", "3.12.10", "3.12.1", "3.11.12"):
        fake(tmp_path / f"versions/{version}/bin/python{version.rpartition('.')[0]}", version)
    places = Places((), (tmp_path / "versions",))
    assert find_python("3.12", places).version == "3.12.10"
    assert find_python("3.12.1", places).version == "3.12.1"
    assert [p.version for p in list_pythons(places)] == ["3.11.12", "3.12.1", "3.12.9", "3.12.10"]


def test_what_is_missing_is_said_with_what_is_there(tmp_path: Path) -> None:
    fake(tmp_path / "bin/python3.9", "3.9.1")
    fake(tmp_path / "bin/python3", "3.11.2")
    with pytest.raises(PythonNotFound) as caught:
        find_python("3.12", Places((tmp_path / "bin",)))
    assert caught.value.details == {"version": "3.12", "found": ["3.9.1", "3.11.2"]}
    assert "-r python:X.Y" in caught.value.message


@pytest.mark.parametrize(
    ("version", "implementation", "level"),
    [
        ("3.12.1", "PyPy", "final"),
        ("3.12.1", "CPython", "candidate"),
        ("3.13.1", "CPython", "t"),
        ("x", "CPython", "final"),
    ],
)
def test_others_than_released_cpythons_are_passed_over(
    tmp_path: Path, version: str, implementation: str, level: str
) -> None:
    assert inspect_python(fake(tmp_path / "python3", version, implementation, level)) is None


def test_names_are_not_believed(tmp_path: Path) -> None:
    fake(tmp_path / "bin/python3.12", "3.11.5")
    with pytest.raises(PythonNotFound):
        find_python("3.12", Places((tmp_path / "bin",)))
    assert find_python("3.11", Places(files=(tmp_path / "bin/python3.12",))).version == "3.11.5"


def test_things_that_are_no_programs(tmp_path: Path) -> None:
    (tmp_path / "bin/python3.12").mkdir(parents=True)
    (tmp_path / "bin/python3").write_text("text")
    (tmp_path / "bin/python").symlink_to("python")
    assert list_pythons(Places((tmp_path / "bin", tmp_path / "gone"), (tmp_path / "gone",))) == []


def test_where_it_is_looked(tmp_path: Path) -> None:
    places = Places.of_machine(
        {
            "HOME": "/home/u",
            "PATH": "relative:/some/bin",
            "PYENV_ROOT": "/pyenv",
            "CONDA_PREFIX": "/conda",
            "CONDA_EXE": "/base/bin/conda",
            "XDG_DATA_HOME": "/data",
        }
    )
    for wanted in ("/some/bin", "/usr/bin", "/opt/homebrew/bin", "/conda/bin", "/home/u/miniconda3/bin"):
        assert Path(wanted) in places.bins
    for wanted in ("/pyenv/versions", "/data/uv/python", "/base/envs", "/home/u/miniforge3/envs"):
        assert Path(wanted) in places.roots
    assert Path("relative") not in places.bins
