"""`argosy image logs`: what the steps of a build wrote."""

import argparse

from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean


def build(group: "argparse._SubParsersAction[Parser]") -> None:
    logs = leaf(
        group,
        "logs",
        "Show what the steps of a build wrote.",
        show_logs,
        ["argosy image logs iris", "argosy image logs iris:2"],
        "Of images that were built with --docker-steps. A name alone shows the last build, also one that failed.",
    )
    logs.add_argument("reference", metavar="NAME[:VERSION]", help="whose build")


def show_logs(args: argparse.Namespace, session: Session) -> None:
    text = session.client.images.logs(args.reference)
    session.show({"log": text}, lambda: [clean(line) for line in text.splitlines()])
