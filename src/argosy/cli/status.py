"""`argosy status`."""

import argparse
from typing import Any

from argosy.cli import plane
from argosy.cli.control import gateway_of
from argosy.cli.output import Block, Pairs
from argosy.cli.parsing import Parser, finish
from argosy.cli.service_look import table
from argosy.cli.session import Session
from argosy.cli.text import moment
from argosy.errors import NotRunning
from argosy.records import Service, Status, encode
from argosy.settings import Home


def build(parser: Parser, name: str) -> None:
    parser.epilog = "examples:\n  argosy status\n  argosy status -o json     # process ids, ports, versions"
    finish(parser, show)


def show(args: argparse.Namespace, session: Session) -> None:
    home = Home.locate(session.environ)
    elsewhere = session.environ.get("ARGOSY_URL") or None
    try:
        status = session.client.status() if elsewhere else plane.running(home, session.environ)
    except NotRunning:
        status = None
    if status is None:
        stopped = {"state": "stopped", "home": str(home.path), "url": elsewhere}
        session.show(
            stopped, lambda: [f"argosy is stopped: no control plane answers (home {home.path}). `argosy up` starts it."]
        )
        return
    services = session.client.services.list()
    data = {"state": "running", **encode(status), "services": encode(services)}
    session.show(data, lambda: _blocks(status, services, gateway_of(status, home)))


def _blocks(status: Status, services: list[Service], gateway_url: str) -> list[Block]:
    gateway: dict[str, Any] = {key: value for key, value in status.gateway.items() if key != "url"}
    return [
        Pairs(
            (
                ("state", "running"),
                ("control plane", status.url),
                ("version", status.version),
                ("pid", status.pid),
                ("started (UTC)", moment(status.started_at)),
                ("home", status.home),
                ("gateway", gateway_url),
                *((f"gateway {key}", _listed(value)) for key, value in gateway.items()),
                *((key, value) for key, value in status.counts.items()),
            )
        ),
        "",
        table(services),
    ]


def _listed(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
