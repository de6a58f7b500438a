"""Which Python a manifest gets: `-r` before the conda file, before the model's own, before the control plane's."""

import re
import sys
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from argosy.errors import InvalidDependencies, InvalidOption
from argosy.manifests.dependencies import PythonWish

# The serving runtime needs 3.10; the last is the newest that was released when this was written.
SUPPORTED_PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Any patch level will do for a manifest, so a wish such as >=3.11.4 is compared with a late one.
_LATE_PATCH = 99


@dataclass(frozen=True)
class Runtime:
    """A parsed `-r`. `python` is `3.12`, empty when any will do; `patch` is `3.12.4` when that was asked for."""

    python: str = ""
    patch: str = ""


def parse_runtime(text: str | None) -> Runtime:
    """`python`, `python:3.12` or `python:3.12.4`; None and "" mean `python`. Raises InvalidOption."""
    if text in (None, "", "python"):
        return Runtime()
    assert text is not None
    if text in ("spark", "spark-py") or text.startswith("spark:"):
        raise InvalidOption("-r/--runtime", text, "the Spark runtime is not supported yet by this version; use python")
    match = re.fullmatch(r"python:(3\.[0-9]{1,2})(\.[0-9]{1,2})?", text)
    if not match:
        raise InvalidOption("-r/--runtime", text[:60], "write python, python:3.12 or python:3.12.4")
    if match[1] not in SUPPORTED_PYTHONS:
        raise InvalidOption("-r/--runtime", text, f"this version serves with Python {_range()}")
    return Runtime(match[1], match[1] + match[2] if match[2] else "")


def default_python() -> str:
    """The control plane's own X.Y."""
    own = "{}.{}".format(*sys.version_info[:2])
    return own if own in SUPPORTED_PYTHONS else SUPPORTED_PYTHONS[-1]


def choose_python(
    runtime: Runtime, wish: PythonWish | None = None, model: PythonWish | None = None, default: str = ""
) -> str:
    """X.Y, such as `3.12`. `wish` is the dependency files', `model` the model's own.

    Of a range, the default if it is in it, else the highest that is. Raises InvalidDependencies for a Python that is
    no longer to be had, which `-r` overrides.
    """
    if runtime.python:
        return runtime.python
    default = default or default_python()
    for said in (wish, model):
        if said and said.specifiers:
            return _fitting(said, default)
    return default


def _fitting(wish: PythonWish, default: str) -> str:
    try:
        specifiers = SpecifierSet(wish.specifiers)
    except InvalidSpecifier as problem:
        raise InvalidDependencies(f"{wish.place}: {wish.specifiers!r} is no Python version.") from problem
    for candidate in (default, *reversed(SUPPORTED_PYTHONS)):
        if candidate in SUPPORTED_PYTHONS and _allows(specifiers, candidate):
            return candidate
    raise InvalidDependencies(
        f"{wish.place}: Python {wish.specifiers} cannot be used, this version serves with Python {_range()}. "
        f"Change that line, or override it with -r python:{default} (packages that were pinned for the old Python "
        "may need newer versions too).",
        {"python": wish.specifiers, "supported": list(SUPPORTED_PYTHONS)},
    )


def _allows(specifiers: SpecifierSet, minor: str) -> bool:
    """Whether some patch level of `minor` is allowed."""
    patches = [Version(f"{minor}.{patch}") for patch in (*range(40), _LATE_PATCH)]
    return any(specifiers.contains(patch) for patch in patches)


def _range() -> str:
    return f"{SUPPORTED_PYTHONS[0]} to {SUPPORTED_PYTHONS[-1]}"
