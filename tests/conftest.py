"""Parts of the machine that some tests need, and what happens when one is missing.

A test asks with the `require` fixture: `haproxy = require("haproxy")`. A missing part leaves the test out, with the way
to get it in the summary. With ARGOSY_TEST_REQUIRE=all nothing may be left out: every skip, whatever its cause, is a
failure.
"""

import os
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import PythonNotFound
from argosy.images.pythons import find_python

Require = Callable[[str], str]
RanWith = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A program of the machine: where it may lie, and how to get it."""

    programs: tuple[str, ...]
    how: str

    def find(self) -> str | None:
        for program in self.programs:
            if found := shutil.which(program):
                return found
        return None


class PythonPart(Part):
    """A Python of some version, wherever Argosy itself finds it: `programs` is the version alone."""

    def find(self) -> str | None:
        try:
            return str(find_python(self.programs[0]).path)
        except PythonNotFound:
            return None


PARTS = {
    "haproxy": Part(("haproxy", "/usr/sbin/haproxy"), "apt-get install haproxy"),
    "chromium": Part(("chromium", "chromium-browser", "google-chrome"), "apt-get install chromium"),
    "curl": Part(("curl",), "apt-get install curl"),
    "faketime": Part(("faketime",), "apt-get install faketime"),
    "openssl": Part(("openssl",), "apt-get install openssl"),
    "docker-registry": Part(("docker-registry",), "apt-get install docker-registry"),
    "skopeo": Part(("skopeo",), "apt-get install skopeo"),
    "umoci": Part(("umoci",), "apt-get install umoci"),
    "ip": Part(("ip", "/usr/sbin/ip"), "apt-get install iproute2"),
    "dockerd": Part(("dockerd", "/usr/sbin/dockerd"), "apt-get install docker.io"),
    "podman-compose": Part(("podman-compose",), "apt-get install podman-compose"),
    "podman": Part(("podman",), "apt-get install podman runc catatonit netavark aardvark-dns"),
    "debootstrap": Part(("debootstrap", "/usr/sbin/debootstrap"), "apt-get install debootstrap"),
    **{f"python{x}": PythonPart((x,), f"uv python install {x}") for x in ("3.10", "3.11", "3.12", "3.13")},
}


def require_part(part: str) -> str:
    """The path of a part's program; without it the test is left out."""
    found = PARTS[part].find()
    if found is None:
        pytest.skip(f"needs {part}: {PARTS[part].how}")
    return found


@pytest.fixture(scope="session")
def require() -> Require:
    return require_part


@pytest.fixture
def ran_with(record_property: Callable[[str, object], None]) -> RanWith:
    """Say for docs/compatibility.md what a test ran with, such as `Python 3.10, numpy 1.21.6`."""
    return lambda versions: record_property("ran_with", versions)


def _all_required() -> bool:
    return os.environ.get("ARGOSY_TEST_REQUIRE") == "all"


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and _all_required():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"left out, though ARGOSY_TEST_REQUIRE=all: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid(report)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was left out and how to run it, once for each reason."""
    left_out: dict[str, set[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        left_out.setdefault(reason.removeprefix("Skipped: "), set()).add(Path(report.nodeid.split("::")[0]).as_posix())
    if left_out:
        terminalreporter.section("left out on this machine")
        for reason, files in sorted(left_out.items()):
            terminalreporter.line(f"{reason} ({', '.join(sorted(files))})")
