"""Turns what uv says when it finds no solution into an error that names the package, the reason and the line.

uv's sentences are read by a few stable patterns; whatever matches none of them is shown as uv said it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement as IndexRequirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from argosy.errors import EnvironmentFailed, Error, InvalidDependencies
from argosy.manifests.dependencies import Requirement
from argosy.manifests.uv import Finished, Index, run_uv

_NAME = r"([A-Za-z0-9][A-Za-z0-9._-]*?)(?:\[[^\]]*\])?"
_UNKNOWN = re.compile(_NAME + r" was not found in (?:the package registry|the provided package locations)")
_NO_VERSION = re.compile(r"there (?:is|are) no versions? of " + _NAME + r"([=<>!~][^\s]*)")
_ONLY = re.compile(r"only (?:the following versions of )?" + _NAME + r"(?:[=<>!~]\S*)? (?:is|are) available")
_NO_WHEEL = re.compile(
    _NAME + r"(?:[=<>!~]\S*)? (?:has|have) no (?:usable wheels|wheels with|`[^`]*`-compatible wheels)"
)
_OTHER_PYTHON = re.compile(r"\band " + _NAME + r"==(\S+) depends on Python\s*([^\s,]+(?:,[^\s,]+)*)")
_MENTIONED = re.compile(_NAME + r"(?=[=<>!~]|\s|,|$)")
_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|dns error|Connection refused|tcp connect error|timed out|"
    r"HTTP status (?:client|server) error|certificate|Could not connect|Network connectivity is disabled",
    re.IGNORECASE,
)
_OFFLINE = re.compile(r"network was disabled|not found in the cache")
_DENIED = re.compile(r"\b(401|403)\b|Unauthorized|Forbidden|Missing credentials")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b")
_LONGEST_REASON_CHARS = 2000
_GIVEN = " @ file:"
_ABOVE, _BELOW = ("--resolution", "lowest-direct"), ()


@dataclass(frozen=True)
class Question:
    """What uv was asked."""

    wishes: tuple[Requirement, ...]
    python: str
    index: Index
    prerelease: bool = False

    def arguments(self, file: str, *more: str) -> list[str]:
        """The command line of uv. Indexes go by environment variables, see Index."""
        compile_ = ["pip", "compile", file, "--universal", "--generate-hashes", "--no-header", "--no-annotate"]
        strict = ["--only-binary", ":all:", "--no-sources", "--no-python-downloads", "--python-version", self.python]
        return [*compile_, *strict, *(["--prerelease", "allow"] if self.prerelease else []), *more]

    def places(self, names: Sequence[str]) -> list[str]:
        """Where packages of these names are asked for: `conda.yml line 7: numpy=9.9`."""
        wanted = {str(canonicalize_name(name)) for name in names}
        return [wish.place for wish in self.wishes if wish.name in wanted]

    @staticmethod
    def no_such_hash(wish: Requirement, name: str, version: str) -> InvalidDependencies:
        return InvalidDependencies(
            f"{wish.place[:200]}: none of the hashes given there belongs to a file of {name} {version} on the index. "
            "Correct the hashes or the version, or leave the hashes out: the lock records them.",
            {"package": name},
        )


def explain(question: Question, finished: Finished, folder: Path) -> Error:
    """The error for a failed resolution. `folder` is where uv may be asked again, for versions that exist."""
    text = " ".join(" ".join(_causes(finished.log)).split())
    details: dict[str, object] = {"log": finished.log, "python": question.python}
    return (
        _machine_failed(finished, details)
        or _unknown_package(question, text, details)
        or _other_python(question, text, details)
        or _given_clash(question, text, details)
        or _no_wheel(question, text, folder, details)
        or _no_version(question, text, folder, details)
        or _conflict(question, text, details)
    )


def _machine_failed(finished: Finished, details: Mapping[str, object]) -> Error | None:
    text = finished.text
    reason = " ".join(_causes(finished.log))[:600]
    if _NO_SPACE.search(text):
        return EnvironmentFailed(
            "The dependencies could not be resolved: no space is left for uv's cache. Free some space or run "
            "`uv cache prune`, then try again.",
            details,
        )
    if _OFFLINE.search(text):
        return EnvironmentFailed(
            f"The dependencies could not be resolved: uv is set to work offline, and its cache lacks them ({reason}). "
            "Unset UV_OFFLINE or name an index with the index_url setting.",
            details,
        )
    if _DENIED.search(text) and ("fetch" in text or "index" in text):
        return EnvironmentFailed(
            f"The package index refused access: {reason}. Put the credentials into the netrc file of the control "
            "plane's user, or into the index_url setting.",
            details,
        )
    if _UNREACHABLE.search(text) and "No solution found" not in text:
        return EnvironmentFailed(
            f"The package index did not answer: {reason}. Check the network, the proxy variables and the index_url "
            "setting, then try again.",
            details,
        )
    return None


def _unknown_package(question: Question, text: str, details: Mapping[str, object]) -> Error | None:
    if not (match := _UNKNOWN.search(text)):
        return None
    name = match[1]
    return InvalidDependencies(
        f"There is no package {name!r} on the package index. {_where(question, [name], text)}"
        "Correct the name, remove the line, or name an index that has it with --extra-index-url.",
        {**details, "package": name, "unknown_package": str(canonicalize_name(name))},
    )


def _other_python(question: Question, text: str, details: Mapping[str, object]) -> Error | None:
    if not (match := _OTHER_PYTHON.search(text)):
        return None
    name, version, wanted = match[1], match[2], match[3]
    return InvalidDependencies(
        f"{name} {version} needs Python {wanted}, and this manifest uses Python {question.python}. "
        f"{_where(question, [name], text)}Choose another version of {name}, or another Python with -r python:X.Y.",
        {**details, "package": name},
    )


def _given_clash(question: Question, text: str, details: Mapping[str, object]) -> Error | None:
    """What conda has installed stays as it is: nothing on top of it may ask for another version."""
    names = {str(canonicalize_name(name)) for name in _names(text)}
    given = [wish for wish in question.wishes if _GIVEN in wish.text and wish.name in names]
    if not given:
        return None
    return InvalidDependencies(
        f"{'; '.join(wish.place for wish in given)} is what conda installs, and what lies on top of it needs another "
        f"version: {text[:_LONGEST_REASON_CHARS].rstrip('.')}. Change the version of one of them, or list both "
        "below `pip:`.",
        {**details, "package": given[0].name},
    )


def _no_wheel(question: Question, text: str, folder: Path, details: Mapping[str, object]) -> Error | None:
    if not (match := _NO_WHEEL.search(text)):
        return None
    name = match[1]
    near = _nearest(question, name, folder)
    instead = f"Versions with a wheel near it: {', '.join(near)}. " if near else ""
    return InvalidDependencies(
        f"{name} has no wheel for Python {question.python} on this kind of machine in the wanted version, and source "
        f"distributions are not built: that would run their code in the control plane. "
        f"{_where(question, [name], text)}{instead}Choose a version with a wheel, another Python with -r python:X.Y, "
        "or put a wheel that you built on your own index.",
        {**details, "package": name, "nearest": near},
    )


def _no_version(question: Question, text: str, folder: Path, details: Mapping[str, object]) -> Error | None:
    match = _NO_VERSION.search(text) or _ONLY.search(text)
    if not match:
        return None
    name = match[1]
    wanted = ", ".join(str(IndexRequirement(w.text).specifier) for w in question.wishes if w.name == name)
    near = _nearest(question, name, folder)
    there = f"The nearest there are: {', '.join(near)}. " if near else ""
    return InvalidDependencies(
        f"There is no version of {name} that fits {wanted or repr(match[0])} for Python {question.python}. "
        f"{_where(question, [name], text)}{there}Change the version.",
        {**details, "package": name, "nearest": near},
    )


def _conflict(question: Question, text: str, details: Mapping[str, object]) -> Error:
    reason = re.sub(r",? we can conclude that your requirements are unsatisfiable\.?", "", text)
    places = question.places(_names(text))
    lines = f" Lines to change: {'; '.join(places)}." if places else ""
    if len(reason) > _LONGEST_REASON_CHARS:
        reason = reason[:_LONGEST_REASON_CHARS] + " ... (the log has all of it)"
    return InvalidDependencies(f"The dependencies contradict each other: {reason.strip(' .')}.{lines}", details)


def _where(question: Question, names: Sequence[str], text: str) -> str:
    """The lines that ask for `names`, else those that lead there."""
    if places := question.places(names):
        return f"It is asked for in {'; '.join(places)}. "
    if places := question.places(_names(text)):
        return f"It is needed by {'; '.join(places)}. "
    return ""


def _names(text: str) -> list[str]:
    return [match[1] for match in _MENTIONED.finditer(text)]


def _causes(log: Sequence[str]) -> Iterator[str]:
    """uv's reason without its headline, hints and warnings."""
    inside = False
    for line in log:
        stripped = line.strip()
        if stripped.startswith(("hint:", "warning:")) or (inside and not stripped):
            inside = False
        elif stripped.startswith(("error:", "cause:")) or stripped[:1] in "×╰├│":
            inside = not stripped.startswith("error: No solution found")
            if inside:
                yield re.sub(r"^(error:|cause:|[×╰├│─▶>\s]+)\s*", "", stripped)
        elif inside:
            yield stripped


def _nearest(question: Question, name: str, folder: Path) -> list[str]:
    """At most two versions that could be installed: the next below and the next above the wanted one.

    None for a package that only others ask for: what those allow is not known here.
    """
    wanted = next((wish for wish in question.wishes if wish.name == str(canonicalize_name(name))), None)
    if not wanted:
        return []
    version = _first_version(wanted.text)
    asked = [f"{name}<{version}", f"{name}>{version}"] if version else [name]
    found = []
    for text, order in zip(asked, (_BELOW, _ABOVE), strict=False):
        (folder / "near.in").write_text(f"{text}\n", encoding="utf-8")
        answer = run_uv(question.arguments("near.in", "--no-deps", *order), folder, index=question.index)
        if match := re.search(r"==([^\s;\\]+)", answer.stdout):
            found.append(match[1])
    return found


def _first_version(text: str) -> Version | None:
    for specifier in IndexRequirement(text).specifier:
        try:
            return Version(specifier.version.removesuffix(".*"))
        except InvalidVersion:
            continue
    return None
