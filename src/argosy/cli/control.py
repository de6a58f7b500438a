"""`argosy up|down|server`."""

import argparse
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from argosy.cli import plane
from argosy.cli.output import Pairs
from argosy.cli.parsing import Parser, UsageError, file_argument, finish, port
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.errors import SystemFailure, TimedOut
from argosy.records import Status
from argosy.sdk.address import Address, read_address, read_token
from argosy.sdk.client import Client
from argosy.settings import Home

_STOP_S = 60.0


def build(parser: Parser, name: str) -> None:
    if name == "down":
        parser.description = (
            "Stop the control plane, all replicas and the gateway. `argosy up` brings every service back, at the same "
            "URL and with the same keys."
        )
        parser.epilog = "examples:\n  argosy down"
        finish(parser, down)
        return
    _add_options(parser)
    if name == "up":
        parser.epilog = (
            "examples:\n  argosy up\n  argosy up --port 0 --gateway-port 0    # free ports, kept from then on\n"
            "  argosy up --host 0.0.0.0 --tls auto     # for other machines, with an own certificate authority"
        )
        finish(parser, up)
    else:
        parser.epilog = "examples:\n  argosy server\n  argosy doctor --unit     # a systemd unit that runs it"
        parser.set_defaults(handler=serve, leaf=parser)


def _add_options(parser: Parser) -> None:
    parser.add_argument("--host", metavar="HOST", help="address to listen on; elsewhere than loopback needs TLS")
    parser.add_argument("--port", type=port, metavar="N", help="port of the control plane (7700); 0 picks a free one")
    parser.add_argument("--gateway-port", type=port, metavar="N", help="port of the gateway (7780); 0 picks a free one")
    parser.add_argument("--tls", choices=("auto",), help="make an own certificate authority and use it")
    file_argument(parser.add_argument("--tls-cert", metavar="FILE", help="PEM certificate chain; with --tls-key"))
    file_argument(parser.add_argument("--tls-key", metavar="FILE", help="PEM private key of --tls-cert"))


def server_options(args: argparse.Namespace) -> list[str]:
    """The given options as the server takes them; paths made absolute, since it runs elsewhere."""
    if bool(args.tls_cert) != bool(args.tls_key):
        raise UsageError("--tls-cert and --tls-key belong together: give both.")
    if args.tls and args.tls_cert:
        raise UsageError("--tls auto makes a certificate; leave out --tls-cert and --tls-key, or --tls.")
    options: list[str] = []
    for name in ("host", "port", "gateway_port", "tls"):
        if getattr(args, name) is not None:
            options += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    for name in ("tls_cert", "tls_key"):
        if getattr(args, name) is not None:
            options += [f"--{name.replace('_', '-')}", os.path.abspath(os.path.expanduser(getattr(args, name)))]  # noqa: PTH100, PTH111
    return options


def up(args: argparse.Namespace, session: Session) -> None:
    home = Home.locate(session.environ)
    options = server_options(args)
    status = plane.running(home, session.environ)
    already = status is not None
    if status is None:
        home.prepare()
        session.going_on = "The control plane goes on starting; `argosy status` shows it, `argosy down` stops it."
        launched = plane.launch(home, options, session.environ)
        with session.progress("argosy up") as progress:
            progress.message("starting the control plane and the gateway")
            status = plane.wait_until_up(home, launched, session.environ)
        already = status.pid != launched.process.pid
    if already:
        session.tell("argosy runs already")
        if different := differences(args, status):
            session.tell(
                f"note: {', '.join(different)} will take effect after `argosy down` and `argosy up` with that option"
            )
    gateway_url = gateway_of(status, home)
    data = {
        "state": "running",
        "already_running": already,
        "url": status.url,
        "gateway_url": gateway_url,
        "docs_url": f"{status.url}/docs",
        "home": status.home,
        "pid": status.pid,
        "version": status.version,
        "ca_file": read_address(home).get("ca_file"),
    }
    session.show(data, lambda: [_addresses(data)])


def _addresses(data: dict[str, Any]) -> Pairs:
    return Pairs(
        (
            ("Control plane", data["url"]),
            ("Gateway", data["gateway_url"]),
            ("API docs", data["docs_url"]),
            ("Home", data["home"]),
            ("CA file", data["ca_file"]),
        )
    )


def gateway_of(status: Status, home: Home) -> str:
    return str(status.gateway.get("url") or read_address(home).get("gateway_url") or "")


def differences(args: argparse.Namespace, status: Status) -> list[str]:
    """The options that ask for something else than what runs."""
    here, gateway = urlsplit(status.url), urlsplit(str(status.gateway.get("url") or ""))
    different = []
    if args.port and args.port != here.port:
        different.append(f"--port {args.port}")
    if args.gateway_port and gateway.port and args.gateway_port != gateway.port:
        different.append(f"--gateway-port {args.gateway_port}")
    if args.host and args.host not in (here.hostname, "0.0.0.0", "::", "localhost"):  # noqa: S104 (compared, not bound)
        different.append(f"--host {args.host}")
    if (args.tls or args.tls_cert) and here.scheme != "https":
        different.append("--tls auto" if args.tls else "--tls-cert")
    return different


def down(args: argparse.Namespace, session: Session) -> None:
    home = Home.locate(session.environ)
    status = plane.running(home, session.environ)
    if status is None:
        _down_without_control_plane(home, session)
        return
    started = plane.birth(status.pid)
    written = read_address(home)
    session.going_on = "The control plane goes on stopping; `argosy status` shows it."
    with session.progress("argosy down") as progress:
        progress.message("stopping the services, the gateway and the control plane")
        ca_file = written.get("ca_file") or session.environ.get("ARGOSY_CA_FILE")
        with Client.at(Address(status.url, read_token(home), ca_file)) as client:
            client.shutdown(services=True)
        if not plane.wait_until_gone(status.pid, started, _STOP_S):
            raise TimedOut(
                f"Stopping (the control plane, process {status.pid}, is still there; its output is in "
                f"{home.logs / 'control-plane.log'})",
                _STOP_S,
            )
    session.show({"state": "stopped", "was_running": True}, lambda: ["argosy is stopped"])


def _down_without_control_plane(home: Home, session: Session) -> None:
    if not (home.lock.exists() or home.address.exists()):
        session.show({"state": "stopped", "was_running": False}, lambda: [f"nothing runs here (home {home.path})"])
        return
    # A control plane that was killed leaves replicas and the gateway behind, and only the server knows them.
    with session.progress("argosy down") as progress:
        progress.message("no control plane answers; looking for what it left behind")
        code, text = plane.stop_leftovers(session.environ)
    if code:
        raise plane.start_failure(text.splitlines(), code, home.logs / "control-plane.log")
    said = (
        clean(text.strip(), lines=True)
        or "argosy is stopped; whatever an earlier control plane had left running has been stopped too"
    )
    session.show({"state": "stopped", "was_running": False, "message": text.strip()}, lambda: [said])


def serve(args: argparse.Namespace, session: Session) -> int:
    """Becomes the server: signals, exit code and output are its own."""
    Home.locate(session.environ).prepare()
    words = plane.command(server_options(args))
    session.stdout.flush()
    try:
        os.execve(sys.executable, words, dict(session.environ))  # noqa: S606 (our own interpreter, no shell)
    except OSError as problem:
        raise SystemFailure(f"{sys.executable} cannot be started: {problem.strerror}.") from problem
