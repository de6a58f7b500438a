"""`argosy gc`."""

import argparse

from argosy.cli import jobs
from argosy.cli.output import Block, Table
from argosy.cli.parsing import Parser, finish
from argosy.cli.session import Session
from argosy.cli.text import size
from argosy.records import Operation


def build(parser: Parser, name: str) -> None:
    parser.description = (
        "Delete from the home what no image, service, tag or model needs: blobs of the image store, environments, "
        "image folders, uploaded files. Safe while builds, pushes and pulls run. "
        "An upload that was never registered is kept for a day."
    )
    parser.epilog = "examples:\n  argosy gc --dry-run     # what it would delete\n  argosy gc"
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    finish(parser, collect)


def collect(args: argparse.Namespace, session: Session) -> None:
    def finished(operation: Operation) -> tuple[object, list[Block]]:
        freed = operation.result["freed"]
        total = size(operation.result["size_bytes"])
        largest = sorted(freed, key=lambda each: (each["what"], -each["size_bytes"]))
        rows = [(each["what"], size(each["size_bytes"]), each["name"]) for each in largest]
        table = Table(("what", "size", "name"), rows, empty="Nothing to free: all that is here is needed.")
        said = f"{total} would be freed; nothing was deleted" if args.dry_run else f"{total} freed"
        return operation.result, [table, *(["", said] if freed else [])]

    jobs.run(
        session,
        jobs.Job("gc", "argosy gc --dry-run", True),
        lambda progress: session.client.gc(dry_run=args.dry_run, on_message=progress.message),
        finished,
    )
