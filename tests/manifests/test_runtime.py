import pytest

from argosy.errors import InvalidDependencies, InvalidOption
from argosy.manifests.dependencies import PythonWish
from argosy.manifests.runtime import SUPPORTED_PYTHONS, Runtime, choose_python, default_python, parse_runtime


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, Runtime()),
        ("", Runtime()),
        ("python", Runtime()),
        ("python:3.12", Runtime("3.12")),
        ("python:3.12.4", Runtime("3.12", "3.12.4")),
    ],
)
def test_runtimes(text: str | None, wanted: Runtime) -> None:
    assert parse_runtime(text) == wanted


@pytest.mark.parametrize("text", ["py", "python3.12", "python:3", "python:2.7", "python:3.9", "python:3.99"])
def test_other_runtimes_are_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="--runtime"):
        parse_runtime(text)


@pytest.mark.parametrize("text", ["spark", "spark-py", "spark:3.5"])
def test_spark_is_said_to_come_later(text: str) -> None:
    with pytest.raises(InvalidOption, match="not supported yet"):
        parse_runtime(text)


def wish(specifiers: str) -> PythonWish:
    return PythonWish(specifiers, f"conda.yml line 4: python{specifiers}")


@pytest.mark.parametrize(
    ("runtime", "conda", "model", "wanted"),
    [
        ("3.13", "==3.11.*", "==3.12.*", "3.13"),
        ("", "==3.11.*", "==3.12.*", "3.11"),
        ("", "", "==3.12.*", "3.12"),
        ("", None, "==3.12.7", "3.12"),
        ("", None, None, "3.11"),
        ("", ">=3.8", None, "3.11"),
        ("", ">=3.12", None, SUPPORTED_PYTHONS[-1]),
        ("", ">=3.8,<3.11", None, "3.10"),
        ("", ">=3.11.5,<3.12", None, "3.11"),
        ("", "==3.*", None, "3.11"),
        ("3.12", "==3.5.*", None, "3.12"),
    ],
)
def test_who_wins(runtime: str, conda: str | None, model: str | None, wanted: str) -> None:
    first, second = (None if text is None else wish(text) for text in (conda, model))
    assert choose_python(Runtime(runtime), first, second, "3.11") == wanted


@pytest.mark.parametrize("old", ["==3.5.*", "==3.5.2.*", "==2.7", "<3.10", "==3.99.*"])
def test_a_python_that_is_no_longer_to_be_had(old: str) -> None:
    with pytest.raises(InvalidDependencies) as caught:
        choose_python(Runtime(), wish(old), default="3.12")
    assert "conda.yml line 4" in caught.value.message
    assert "-r python:3.12" in caught.value.message


def test_no_version_at_all() -> None:
    with pytest.raises(InvalidDependencies, match="no Python version"):
        choose_python(Runtime(), wish("==three"))


def test_the_default_is_a_supported_one() -> None:
    assert default_python() in SUPPORTED_PYTHONS
    assert choose_python(Runtime()) == default_python()
