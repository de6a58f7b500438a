"""Solves a conda file as conda would, without conda, and locks what lies above it with uv.

The machine's own platform must have a solution. The others that images are built for are solved too, with the same
versions of Python packages, so that one list of wheels fits on top of all; where that fails, a note says why.
"""

import platform as machine
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from argosy.errors import EnvironmentFailed, Error, InvalidDependencies
from argosy.manifests.channels import Channels
from argosy.manifests.conda_file import CondaFile, CondaSpec
from argosy.manifests.conda_install import install_conda, refused_access
from argosy.manifests.dependencies import Dependencies, unusable
from argosy.manifests.lock import Given, resolve
from argosy.manifests.run_rattler import Refused, run_rattler
from argosy.manifests.runtime import SUPPORTED_PYTHONS, Runtime
from argosy.records import CondaEnvironment, CondaPackage, Lock, decode

# What conda calls the platforms that images are built for, by uname.
IMAGE_PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}
# What packages may ask of a system, the same for every machine and image: as the wheels of a lock do, they need glibc
# 2.28 or later (Debian 10, Ubuntu 18.10, RHEL 8 and all that came after).
_LINUX = (("__unix", "0", "0"), ("__linux", "4.18", "0"), ("__glibc", "2.28", "0"))
_VIRTUAL = {
    "linux-64": (*_LINUX, ("__archspec", "1", "x86_64")),
    "linux-aarch64": (*_LINUX, ("__archspec", "1", "aarch64")),
    "osx-64": (("__unix", "0", "0"), ("__osx", "13.0", "0"), ("__archspec", "1", "x86_64")),
    "osx-arm64": (("__unix", "0", "0"), ("__osx", "13.0", "0"), ("__archspec", "1", "m1")),
}
_DENIED = re.compile(r"\b(?:401|403)\b(?: [A-Z]\w+)?")
_NO_CHANNEL = re.compile(r"could not find subdir|\b404\b|No such file or directory")
_DIST_INFO = re.compile(r"([^/]+?)-([^-/]+)\.(?:dist-info|egg-info)")
_LONGEST_REASON_CHARS = 2000


@dataclass(frozen=True)
class CondaWish:
    """What is to be locked. `runtime` is a parsed -r, which overrides the file's Python."""

    file: CondaFile
    runtime: Runtime
    on_top: Dependencies
    serving: Sequence[str]
    channels: Channels
    index_url: str = ""
    extra_index_url: str = ""

    @property
    def specs(self) -> list[CondaSpec]:
        """The file's, and what the Python must be. Line 0 is not in the file."""
        asked = [spec for spec in self.file.specs if not (self.runtime.python and _is_python(spec))]
        first, last = SUPPORTED_PYTHONS[0], SUPPORTED_PYTHONS[-1]
        bounds = f"python >={first},<3.{int(last.partition('.')[2]) + 1}.0a0"
        exact = f"python =={self.runtime.patch}" if self.runtime.patch else f"python {self.runtime.python}.*"
        return [*asked, CondaSpec(exact if self.runtime.python else bounds, 0)]

    def place(self, spec: CondaSpec) -> str:
        """Who asks for it; empty for the bounds that this version sets."""
        return f"{self.file.name} line {spec.line}" if spec.line else "-r" if self.runtime.python else ""

    @property
    def channel_names(self) -> list[str]:
        return [channel.text for channel in self.file.channels] or list(self.channels.urls)


def own_platform() -> str:
    """This machine's, as conda calls it."""
    if sys.platform == "darwin":
        return "osx-arm64" if machine.machine() == "arm64" else "osx-64"
    return IMAGE_PLATFORMS.get(machine.machine(), "linux-64")


def lock_conda(wish: CondaWish) -> tuple[Lock, list[str]]:
    """The lock, and notes on platforms that are left out. Raises InvalidDependencies or EnvironmentFailed."""
    try:
        return _lock(wish)
    except OSError as problem:
        raise EnvironmentFailed(
            f"The conda packages could not be solved: the temporary folder {tempfile.gettempdir()} cannot be used "
            f"({problem.strerror or problem}). Free some space there, or set TMPDIR to another folder."
        ) from problem


def _lock(wish: CondaWish) -> tuple[Lock, list[str]]:
    here = own_platform()
    own, channels = _solve(wish, here)
    solved, notes = [own], []
    for platform in IMAGE_PLATFORMS.values():
        if platform != here:
            try:
                solved.append(_solve(wish, platform, _pins(own.packages))[0])
            except InvalidDependencies as problem:
                notes.append(f"No image can be built for {platform}, which has no such packages: {problem.message}")
    python = ".".join(next(p.version for p in own.packages if p.name == "python").split(".")[:2])
    given = _distributions(own, wish.channels)
    top = resolve(
        wish.on_top, python, wish.serving, wish.index_url, wish.extra_index_url, given=_with_lines(given, wish.file)
    )
    packages = {package.name: package.version for package in own.packages} | top.packages
    solved.sort(key=lambda environment: environment.platform)
    return replace(top, packages=dict(sorted(packages.items())), channels=channels, conda=solved), notes


def _solve(wish: CondaWish, platform: str, constraints: Sequence[str] = ()) -> tuple[CondaEnvironment, list[str]]:
    order = {
        "do": "solve",
        "channels": wish.channel_names,
        "specs": [spec.text for spec in wish.specs],
        "constraints": list(constraints),
        "platform": platform,
        "virtual": _VIRTUAL[platform],
    }
    try:
        answer = run_rattler(order, wish.channels)
    except Refused as refused:
        raise _explained(wish, refused, platform) from refused
    packages = sorted((decode(CondaPackage, each) for each in answer["packages"]), key=lambda package: package.name)
    for package in packages:
        if not package.sha256:
            raise InvalidDependencies(
                f"{package.channel} lists {package.name} {package.version} {package.build} without a SHA-256, so it "
                "cannot be locked. Let the channel be indexed anew with hashes.",
                {"package": package.name},
            )
    return CondaEnvironment(platform, packages), answer["channels"]


def _pins(packages: Sequence[CondaPackage]) -> list[str]:
    """Python and its packages at these versions; native libraries may differ between platforms."""
    return [
        f"{package.name} =={package.version}"
        for package in packages
        if package.name == "python" or any(re.match(r"python(_abi)?\b(?!-)", text) for text in package.depends)
    ]


def _distributions(environment: CondaEnvironment, channels: Channels) -> list[Given]:
    """The Python distributions of an environment, as pip would see them: only the packages' files tell."""
    with tempfile.TemporaryDirectory(prefix="argosy-conda-") as name:
        target = Path(name) / "prefix"
        install_conda(environment.packages, environment.platform, target, target, channels)
        found = [path.name for path in target.glob("lib/python3.*/site-packages/*-info")]
    return list(_versioned(sorted(found)))


def _versioned(names: Sequence[str]) -> Iterator[Given]:
    for name in names:
        if match := _DIST_INFO.fullmatch(re.sub(r"-py3\.\d+(?=\.egg-info)", "", name)):
            try:
                yield Given(match[1], str(Version(match[2])))
            except InvalidVersion:
                continue


def _with_lines(given: Sequence[Given], file: CondaFile) -> list[Given]:
    """With the file's line, where the conda package has the distribution's name."""
    return [
        next(
            (
                replace(each, place=f"{file.name} line {spec.line}: {spec.text}")
                for spec in file.specs
                if _name(spec.text) == each.name.lower().replace("_", "-")
            ),
            each,
        )
        for each in given
    ]


def _name(spec: str) -> str:
    return re.split(r"[\s=<>!~\[]", spec.rpartition("::")[2].strip(), maxsplit=1)[0].lower()


def _is_python(spec: CondaSpec) -> bool:
    return _name(spec.text) == "python"


def _explained(wish: CondaWish, refused: Refused, platform: str) -> Error:
    text = refused.text.strip()[:_LONGEST_REASON_CHARS]
    log = {"log": refused.text.splitlines()} if "\n" in text else {}
    details: dict[str, Any] = {**log, "platform": platform}
    if refused.kind == "spec":
        spec = wish.specs[refused.more["spec"]]
        return unusable(wish.file.name, spec.line, f"{spec.text[:200]!r} is no conda package: {_first_line(text)}")
    if refused.kind == "channel":
        return _channel_failed(wish, text, details)
    return _unsolvable(wish, refused, text, platform, details)


def _channel_failed(wish: CondaWish, text: str, details: dict[str, Any]) -> Error:
    names = wish.channel_names
    channel = next((name for name in names if name in text), names[0] if len(names) == 1 else "A channel")
    line = next((f"{wish.file.name} line {c.line}: " for c in wish.file.channels if c.text == channel), "")
    if denied := _DENIED.search(text):
        return EnvironmentFailed(line + refused_access(channel, denied[0]), details)
    if _NO_CHANNEL.search(text):
        return InvalidDependencies(
            f"{line}{channel} is no conda channel: there is no repodata.json in its folder `noarch` "
            f"({_last_line(text)}). Correct the name or URL.",
            details,
        )
    return EnvironmentFailed(
        f"{line}{channel} did not answer ({_last_line(text)}). Check the URL, the network, the proxy variables and "
        "the certificate authorities (SSL_CERT_FILE), then try again.",
        details,
    )


def _unsolvable(wish: CondaWish, refused: Refused, text: str, platform: str, details: dict[str, Any]) -> Error:
    channels = ", ".join(wish.channel_names)
    for spec, offered in zip(wish.specs, refused.more["offered"], strict=True):
        if offered:
            continue
        if _is_python(spec):
            return InvalidDependencies(
                f"None of the channels ({channels}) has a Python for {platform}, and conda's packages run with conda's "
                "own. Add a channel that has one, such as conda-forge.",
                details,
            )
        return unusable(
            wish.file.name,
            spec.line,
            f"{spec.text}: none of the channels ({channels}) has it for {platform}. Correct the name, name a channel "
            "that has it under `channels:`, or move it below `pip:`.",
        )
    reason = text.removeprefix("Cannot solve the request because of: ").strip()
    lines = [
        f"{wish.place(spec)}: {spec.text} (there is {', '.join(offered)})"
        for spec, offered in zip(wish.specs, refused.more["offered"], strict=True)
        if wish.place(spec) and re.search(rf"(?<![\w-]){re.escape(_name(spec.text))}(?![\w-])", reason)
    ]
    where = f" Lines to change: {'; '.join(lines)}." if lines else ""
    return InvalidDependencies(
        f"The conda packages cannot be had together for {platform}: {reason.rstrip('.')}.{where}", details
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0][:300] if text else ""


def _last_line(text: str) -> str:
    return text.splitlines()[-1].removeprefix("Caused by: ")[:300] if text else ""
