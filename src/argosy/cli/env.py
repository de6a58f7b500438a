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
    create = _named(
        leaf(
            group,
            "create",
            "Make a further environment.",
            create_environment,
            [
                "argosy env create staging --kind process",
                "argosy env create box --kind container",
                "argosy env create box --kind container --engine unix:///run/podman/podman.sock",
            ],
        )
    )
    create.add_argument(
        "--kind",
        choices=("process", "container"),
        default="process",
        help="replicas as processes of this machine (process), or as containers of its Docker or Podman (container)",
    )
    create.add_argument(
        "--engine",
        default="",
        metavar="URL",
        help="the socket of Docker or Podman, as unix:///path; by default the one of $DOCKER_HOST, else the first that "
        "answers of /var/run/docker.sock, docker.sock and podman/podman.sock in $XDG_RUNTIME_DIR, and "
        "/run/podman/podman.sock",
    )
    leaf(group, "list", "List the environments; `local` is always there.", list_environments, ["argosy env list"])
    _named(leaf(group, "show", "Show an environment and its services.", show_environment, ["argosy env show local"]))
    _named(
        leaf(
            group,
            "use",
            "Let services that are created without --env go there.",
            use_environment,
            ["argosy env use box"],
        )
    )
    _named(
        leaf(
            group,
            "check",
            "Look whether everything that replicas need there is at hand. Exits with 2 when something is not.",
            check_environment,
            ["argosy env check box"],
        )
    )
    delete = _named(
        leaf(
            group,
            "delete",
            "Delete an environment that no service runs in.",
            delete_environment,
            ["argosy env delete staging --yes"],
        )
    )
    delete.add_argument("--yes", action="store_true", help="do not ask")


def create_environment(args: argparse.Namespace, session: Session) -> None:
    environment = session.client.environments.create(args.name, args.kind, engine=args.engine)
    session.show(environment, lambda: [_details(environment)])


def list_environments(args: argparse.Namespace, session: Session) -> None:
    found = session.client.environments.list()
    session.show(
        found,
        lambda: [
            Table(
                ("name", "kind", "default", "engine", "services", "created (UTC)"),
                [
                    (
                        e.name,
                        e.kind,
                        "yes" if e.is_default else "",
                        e.engine,
                        ", ".join(e.services),
                        moment(e.created_at),
                    )
                    for e in found
                ],
            )
        ],
    )


def show_environment(args: argparse.Namespace, session: Session) -> None:
    environment = session.client.environments.show(args.name)
    session.show(environment, lambda: [_details(environment)])


def use_environment(args: argparse.Namespace, session: Session) -> None:
    environment = session.client.environments.use(args.name)
    session.show(environment, lambda: [_details(environment)])


def check_environment(args: argparse.Namespace, session: Session) -> int:
    checks = session.client.environments.check(args.name)
    session.show(checks, lambda: [Table(("check", "state", "message"), [(c.name, c.state, c.message) for c in checks])])
    return 2 if any(check.state == "fail" for check in checks) else 0


def delete_environment(args: argparse.Namespace, session: Session) -> None:
    environment = session.client.environments.show(args.name)
    session.confirm(f"Delete environment {environment.name}?", args.yes)
    session.client.environments.delete(args.name)
    session.show({"deleted": environment.name}, lambda: [f"environment {environment.name} is deleted"])


def _named(parser: Parser) -> Parser:
    parser.add_argument("name", metavar="NAME", help="its name")
    return parser


def _details(environment: Environment) -> Pairs:
    return Pairs(
        (
            ("environment", environment.name),
            ("kind", environment.kind),
            ("engine", environment.engine),
            ("default", "yes" if environment.is_default else ""),
            ("services", ", ".join(environment.services)),
            ("created (UTC)", moment(environment.created_at)),
        )
    )
