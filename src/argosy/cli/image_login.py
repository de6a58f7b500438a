"""`argosy image login` and `logout`: who we are at container registries."""

import argparse
import getpass
import sys

from argosy.cli import parsing
from argosy.cli.output import Pairs
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.records import RegistryLogin


def build(group: "argparse._SubParsersAction[Parser]") -> None:
    login = leaf(
        group,
        "login",
        "Log in to a container registry; the control plane keeps the login, sealed.",
        log_in,
        [
            "argosy image login registry.example.com -u ann",
            "cat password.txt | argosy image login registry.example.com:5000 -u ann --password-stdin",
            "argosy image login registry.local:5000 --plain-http",
        ],
        "The password is asked for, or read from stdin. A registry without a login here is used with the one in the "
        "Docker\nconfig of the control plane's user, if any.",
    )
    login.add_argument("registry", metavar="REGISTRY", help="HOST or HOST:PORT")
    login.add_argument("-u", "--username", metavar="USER", help="who we are there")
    login.add_argument("--password-stdin", action="store_true", help="read the password, or a token, from stdin")
    login.add_argument(
        "--plain-http",
        action="store_true",
        help="the registry has no TLS; passwords and images can be read on the way. Without -u nobody is logged in",
    )
    logout = leaf(
        group,
        "logout",
        "Forget the login at a container registry.",
        log_out,
        ["argosy image logout registry.example.com"],
    )
    logout.add_argument("registry", metavar="REGISTRY", help="HOST or HOST:PORT")


def log_in(args: argparse.Namespace, session: Session) -> None:
    if args.username is None and (args.password_stdin or not args.plain_http):
        raise parsing.UsageError("say who you are there: -u USER.")
    password = "" if args.username is None else _password(args, session)
    found = session.client.registries.login(args.registry, args.username or "", password, plain_http=args.plain_http)
    session.show(found, lambda: [_details(found)])


def log_out(args: argparse.Namespace, session: Session) -> None:
    session.client.registries.logout(args.registry)
    session.show({"logged_out": args.registry}, lambda: [f"the login at {args.registry} is forgotten"])


def _password(args: argparse.Namespace, session: Session) -> str:
    if args.password_stdin:
        # One line end is the file's, further ones are not.
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password of {args.username} at {args.registry}: ", session.stderr)
    else:
        raise parsing.UsageError("nobody is there to type the password: use --password-stdin.")
    if not password:
        raise parsing.UsageError("the password is empty.")
    return password


def _details(login: RegistryLogin) -> Pairs:
    return Pairs(
        (
            ("registry", login.host),
            ("user", login.username),
            ("transport", "plain HTTP" if login.plain_http else "TLS, or plain HTTP on this machine"),
        )
    )
