"""Every error a user can meet hangs on one tree, is described in its drawing, and is raised somewhere."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from argosy import errors

EXCEPTIONS: list[type[Exception]] = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if found.__module__ == errors.__name__ and issubclass(found, Exception)
]
CLASSES = [found for found in EXCEPTIONS if issubclass(found, errors.Error)]
LEAVES = [found for found in CLASSES if not found.__subclasses__()]


def called_names(source: Path) -> set[str]:
    """Names that a file calls or raises, bare or as an attribute."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        target = node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
        if isinstance(target, ast.Name):
            names.add(target.id)
        elif isinstance(target, ast.Attribute):
            names.add(target.attr)
    return names


@pytest.fixture(scope="module")
def raised(root: Path) -> set[str]:
    files = [path for path in (root / "src" / "argosy").rglob("*.py") if path.name != "errors.py"]
    return set().union(*(called_names(path) for path in files))


def test_every_error_derives_from_the_base() -> None:
    assert EXCEPTIONS == CLASSES


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_leaf_is_raised_somewhere(leaf: type[errors.Error], raised: set[str]) -> None:
    assert leaf.__name__ in raised


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_stands_in_the_drawing_at_the_top_of_the_file(error: type[errors.Error]) -> None:
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__ or "")


def test_codes_are_distinct_and_statuses_fit_the_branch() -> None:
    codes = [leaf.code for leaf in LEAVES]
    assert len(set(codes)) == len(codes)
    for error in CLASSES:
        if issubclass(error, errors.UserError):
            assert 400 <= error.status < 500
            assert error.exit_code == 1
        elif issubclass(error, errors.SystemFailure):
            assert error.status >= 500
            assert error.exit_code == 2


def test_a_body_read_back_has_the_same_status_code_and_message() -> None:
    sent = errors.NotFound("model", "iris:9")
    read = errors.error_from_body(sent.status, sent.body())
    assert (read.code, read.status, read.message, read.details) == (sent.code, 404, sent.message, sent.details)
    assert isinstance(read, errors.UserError)
    assert isinstance(errors.error_from_body(502, {}), errors.SystemFailure)
