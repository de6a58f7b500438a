"""`argosy version`."""

import argparse
import platform

from argosy import __version__
from argosy.cli.parsing import Parser, finish
from argosy.cli.session import Session


def build(parser: Parser, name: str) -> None:
    parser.epilog = "examples:\n  argosy version\n  argosy version -o json"
    finish(parser, show)


def show(args: argparse.Namespace, session: Session) -> None:
    if args.output == "table":
        # Not by way of `session.show`: this command answers as fast as --help.
        print(f"argosy {__version__}", file=session.stdout)
        return
    session.show({"version": __version__, "python": platform.python_version()}, list)
