import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.errors import InvalidFile
from argosy.models.paths import check_path, check_paths


@pytest.mark.parametrize(
    "path",
    ["model.pkl", "iris/model.pkl", "a b/c=d,(1).bin", "modèle/été.json", ".hidden/x", "x" * 255, "a/" * 63 + "b"],
)
def test_ordinary_paths_pass(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("C:/windows", "absolute"),
        ("c:model", "absolute"),
        ("..", "'..'"),
        ("a/../b", "'..'"),
        ("a\\..\\b", "backslash"),
        ("\\\\host\\share", "backslash"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("./a", "'.'"),
        ("a/./b", "'.'"),
        ("a\nb", "control"),
        ("a\0b", "control"),
        ("fdp\u202elkp.exe", "invisible"),
        ("\ud800", "control or invisible"),
        ("x" * 256, "longer"),
        ("/".join(["x" * 200] * 6), "longer"),
        ("a/" * 64 + "b", "deep"),
    ],
)
def test_dangerous_paths_are_named(path: str, problem: str) -> None:
    with pytest.raises(InvalidFile, match=problem) as caught:
        check_path(path)
    caught.value.message.encode("ascii")


@given(st.text(alphabet=st.sampled_from("ab./\\:C\0\n\u202eé "), max_size=12) | st.text(max_size=40))
def test_what_passes_stays_below_any_folder(path: str) -> None:
    try:
        check_path(path)
    except InvalidFile:
        return
    assert os.path.normpath(f"/root/{path}") == f"/root/{path}"
    assert str(PurePosixPath("/root") / path) == f"/root/{path}"


def test_a_path_is_there_once_and_no_file_is_a_folder() -> None:
    with pytest.raises(InvalidFile, match="twice"):
        check_paths(["a", "b", "a"])
    with pytest.raises(InvalidFile, match="it is a file, and a folder too because of m/a/b"):
        check_paths(["m/a/b", "m/a"])


def test_names_that_are_one_on_other_systems_are_warned_about() -> None:
    assert check_paths(["m/A.bin", "m/b", "m/a.bin"]) == [
        "m/A.bin and m/a.bin differ by case or accents only and are one file on some systems"
    ]
    assert len(check_paths(["\u00e9", "e\u0301"])) == 1
    assert check_paths(["a", "b"]) == []
