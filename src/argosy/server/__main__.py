"""`python -m argosy.server`: one control plane of one home, in the foreground.

Failures to start are printed as `error: ...` on standard error; the exit code is 1 for what the user can put right by
another option and 2 for the rest.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import uvloop

from argosy.environments.process import ProcessTarget
from argosy.errors import Conflict, Error, InvalidOption
from argosy.gateway.gateway import Gateway
from argosy.gateway.tls import TlsFiles, check_bind, given, own_ca
from argosy.server.composition import ControlPlane, bind, remembered, stop_everything
from argosy.settings import Home, Settings, load_settings


def main() -> int:
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It would log every URL, and those of a registry's storage are signed.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        home = Home.locate()
        home.prepare()
        with _only_one(home):
            ports, before = remembered(home)
            options = before | _given(arguments)
            settings = _settings(home, arguments, {**ports, **options})
            if arguments.stop_all:
                stop_everything(Gateway(home, settings, None), ProcessTarget(home, settings.log_limit_bytes))
                return 0
            check_bind(settings.host, settings.tls)
            listener = bind(settings)
            plane = ControlPlane(home, settings, _tls(home, settings), listener, options)
            uvloop.run(plane.serve())
        return 0
    except Error as problem:
        print(f"error: {problem.message}", file=sys.stderr)
        return problem.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="argosy server", description="Run the control plane in the foreground.")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--gateway-port", type=int)
    parser.add_argument("--tls", choices=["auto"])
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument(
        "--stop-all", action="store_true", help="stop replicas and gateway that a dead control plane left"
    )
    return parser


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that options set for this start and those to come; a certificate of one kind replaces the other."""
    given: dict[str, Any] = {}
    if arguments.host is not None:
        given["host"] = arguments.host
    if arguments.tls == "auto":
        given |= {"tls_auto": True, "tls_cert": "", "tls_key": ""}
    if arguments.tls_cert is not None or arguments.tls_key is not None:
        given |= {"tls_auto": False, "tls_cert": arguments.tls_cert or "", "tls_key": arguments.tls_key or ""}
    return given


def _settings(home: Home, arguments: argparse.Namespace, before: Mapping[str, Any]) -> Settings:
    """What options say now goes over everything, what they said `before` under the file and the environment."""
    settings = load_settings(
        home, remembered=before, port=arguments.port, gateway_port=arguments.gateway_port, **_given(arguments)
    )
    for option, port in (("--port", settings.port), ("--gateway-port", settings.gateway_port)):
        if not 0 <= port <= 65_535:
            raise InvalidOption(option, port, "a port is a number from 0 to 65535")
    return settings


def _tls(home: Home, settings: Settings) -> TlsFiles | None:
    if settings.tls_cert or settings.tls_key:
        return given(Path(settings.tls_cert), Path(settings.tls_key))
    return own_ca(home, [settings.host]) if settings.tls_auto else None


@contextlib.contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the home's lock. Conflict when another control plane has it.

    It is let go by the end of the process, not of the block: a thread that still builds something must not meet the
    next control plane, which takes the same operation up.
    """
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(f"Another control plane runs for {home.path}{_where(home)}.") from None
    yield


def _where(home: Home) -> str:
    try:
        return f" at {json.loads(home.address.read_text())['url']}"
    except (OSError, ValueError, KeyError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
