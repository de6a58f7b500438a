"""`argosy env ...`."""

import argparse

from argosy.cli import parsing
from argosy.cli.output import Pairs, Table
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import moment
from argosy.records import Environment


def build(parser: Parser, name: str) -> None:
    group = parsing.commands(parser)
    create = leaf(
        group, "create", "Make a further environment.", create_environment, ["argosy env create staging --kind process"]
    )
    create.add_argument("name", metavar="NAME", help="its name")
    create.add_argument("--kind", choices=("process",), default="process", help="processes on this machine")
    leaf(group, "list", "List the environments; `local` is always there.", list_environments, ["argosy env list"])
    show = leaf(group, "show", "Show an environment and its services.", show_environment, ["argosy env show local"])
    show.add_argument("name", metavar="NAME", help="its name")
    delete = leaf(
        group,
        "delete",
        "Delete an environment that no service runs in.",
        delete_environment,
        ["argosy env delete staging --yes"],
    )
    delete.add_argument("name", metavar="NAME", help="its name")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def create_environment(args: argparse.Namespace, session: Session) -> None:
    environment = session.client.environments.create(args.name, args.kind)
    session.show(environment, lambda: [_details(environment)])


def list_environments(args: argparse.Namespace, session: Session) -> None:
    found = session.client.environments.list()
    session.show(
        found,
        lambda: [
            Table(
                ("name", "kind", "services", "created (UTC)"),
                [(e.name, e.kind, ", ".join(e.services), moment(e.created_at)) for e in found],
            )
        ],
    )


def show_environment(args: argparse.Namespace, session: Session) -> None:
    environment = session.client.environments.show(args.name)
    session.show(environment, lambda: [_details(environment)])


def delete_environment(args: argparse.Namespace, session: Session) -> None:
    environment = session.client.environments.show(args.name)
    session.confirm(f"Delete environment {environment.name}?", args.yes)
    session.client.environments.delete(args.name)
    session.show({"deleted": environment.name}, lambda: [f"environment {environment.name} is deleted"])


def _details(environment: Environment) -> Pairs:
    return Pairs(
        (
            ("environment", environment.name),
            ("kind", environment.kind),
            ("services", ", ".join(environment.services)),
            ("created (UTC)", moment(environment.created_at)),
        )
    )
