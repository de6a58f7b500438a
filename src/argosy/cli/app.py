"""From the words typed to one handler, and from what it raises to an exit code: 0 ok, 1 user error, 2 system.

`argosy --help` and `argosy version` must stay cheap, so this module and what it imports load nothing heavy.
"""

from __future__ import annotations

import importlib
import os
import sys

from argosy import __version__
from argosy.cli.parsing import Parser, UsageError, commands
from argosy.cli.session import Session

TYPE_CHECKING = False  # see argosy/__init__.py
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

# name, module that has `build(parser)`, help
COMMANDS = (
    ("up", "control", "start the control plane and the gateway in the background"),
    ("down", "control", "stop the control plane, all services and the gateway"),
    ("server", "control", "run the control plane in the foreground"),
    ("status", "status", "what runs here: addresses, processes, services"),
    ("doctor", "doctor", "check this machine and the installation; print a systemd unit"),
    ("version", "version", "print the version"),
    ("completion", "completion", "print the completion script of a shell"),
    ("serve", "serve", "run just the scoring server of a script and a model, here and now"),
    ("schema", "schema", "make schema files, and compare them: what breaks callers"),
    ("model", "model", "register, list, show, download, alias, tag and delete models"),
    ("manifest", "manifest", "create, test, list, show and delete manifests: frozen recipes with their lock"),
    ("image", "image", "create, show, save, load, push, pull and delete images: what runs; log in to registries"),
    ("gc", "gc", "delete what nothing needs any more: image blobs, environments, uploads"),
    ("env", "env", "create, list, show and delete environments: where services run"),
    ("service", "service", "create, update, call, watch and delete services"),
)
_EXAMPLES = (
    "argosy up",
    "argosy service create iris -m iris.pkl -f score.py -c conda.yml -s schema.json",
    "argosy service run iris",
    "argosy service update iris -m new.pkl",
    "argosy COMMAND --help          # every command has examples",
)


def build(words: Sequence[str] | None = None) -> Parser:
    """The parser; only the command named in `words` is filled in, all of them when `words` is None."""
    parser = Parser(
        prog="argosy",
        description="From a trained model to an authenticated, load-balanced REST service.",
        examples=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"argosy {__version__}")
    parser.set_defaults(handler=None, leaf=parser)
    group = commands(parser)
    asked = None if words is None else next((word for word in words if not word.startswith("-")), "")
    for name, module, summary in COMMANDS:
        inner = group.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if asked is None or name == asked:
            inner.set_defaults(leaf=inner)
            importlib.import_module(f"argosy.cli.{module}").build(inner, name)
    return parser


def main(
    argv: Sequence[str] | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """The exit code of a command line. Never raises, but for SystemExit after `--help`."""
    words = list(sys.argv[1:] if argv is None else argv)
    session = Session(stdout or sys.stdout, stderr or sys.stderr, environ)
    try:
        return _run(words, session)
    except BrokenPipeError:
        # The reader of our output has gone, which is its right. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        session.tell("\ninterrupted." + (f" {session.going_on}" if session.going_on else ""))
        return 130
    except UsageError as problem:
        session.tell(f"error: {problem}")
        return 1
    except Exception as problem:  # noqa: BLE001 (the last resort: a user never sees a traceback)
        from argosy.cli.failures import report

        return report(problem, session)
    finally:
        session.close()


def _run(words: Sequence[str], session: Session) -> int:
    parser = build(words)
    args = parser.parse(words)
    if args.handler is None:
        args.leaf.print_help(session.stdout)
        return 1
    session.output_format = getattr(args, "output", "table")
    code = args.handler(args, session) or 0
    session.stdout.flush()
    return code
