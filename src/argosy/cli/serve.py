"""`argosy serve`: just the scoring server, in the Python that runs this command, exactly as in an image."""

import argparse
import json
import shlex
import signal
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from argosy.cli import parsing, recipe_options
from argosy.cli.local_server import HOST, Recipe, Server, free_port, is_ready, lay_out, readable, samples_of
from argosy.cli.parsing import Collect, Parser, file_argument
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.errors import Error, UserError

_PORT = 5001
_LOOK_EVERY_S = 0.2
_LONGEST_SAMPLE_CHARS = 2000

_EXAMPLES = (
    "argosy serve score.py -m model.pkl -s schema.json",
    "argosy serve score.py -m model.pkl -s schema.json --reload     # again after every change",
    "argosy serve score.py -m model.pkl --port 0 --key secret",
)


def build(parser: Parser, name: str) -> None:
    parser.set_defaults(handler=serve, leaf=parser)
    parser.description = (
        "Run just the scoring server of a script, in this Python, with no control plane: the same server, schema\n"
        "checks, documents and sample run as in an image. Ctrl-C drains it."
    )
    parser.epilog = "examples:\n" + "\n".join(f"  {line}" for line in _EXAMPLES)
    file_argument(parser.add_argument("script", metavar="SCRIPT", help="the scoring script: init() and run()"))
    add = parser.add_argument
    file_argument(
        add(
            "-m",
            "--model",
            action="append",
            default=[],
            metavar="FILE|DIR",
            help="a model's file or folder; repeatable",
        )
    )
    file_argument(add("-s", "--schema", metavar="FILE", help="the schema of inputs and output, as JSON"))
    file_argument(
        add(
            "--sample",
            action="append",
            default=[],
            metavar="FILE",
            help="a request body that must be answered; repeatable",
        )
    )
    file_argument(
        add(
            "-D",
            "--dependency",
            action="append",
            default=[],
            metavar="FILE|DIR",
            help="a further file beside the script",
        )
    )
    add("-e", "--variable", action=Collect, help="an environment variable; repeatable")
    recipe_options.add_serving(parser)
    add(
        "--port",
        type=parsing.port,
        default=_PORT,
        metavar="N",
        help=f"where to listen on {HOST} ({_PORT}); 0: a free port",
    )
    add("--key", default="", help="a key that callers must send; without it none is needed")
    add("--reload", action="store_true", help="start again when the script, the model or the schema changes")


def serve(args: argparse.Namespace, session: Session) -> int:
    recipe = Recipe(
        script=Path(args.script),
        models=[Path(path) for path in args.model],
        files=[Path(path) for path in args.dependency],
        schema=Path(args.schema) if args.schema else None,
        samples=[Path(path) for path in args.sample],
        key=args.key,
        serving=recipe_options.serving_of(args),
        variables=args.variable,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    port = free_port(args.port)
    with tempfile.TemporaryDirectory(prefix="argosy-serve-") as name:
        return _Serving(Path(name), recipe, port, session).run(args.reload)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class _Serving:
    """Starts the replica, and with `reload` starts it again, until Ctrl-C."""

    def __init__(self, folder: Path, recipe: Recipe, port: int, session: Session) -> None:
        self._folder, self._recipe, self._port, self._session = folder, recipe, port, session

    def run(self, reload: bool) -> int:
        try:
            while True:
                seen = self._recipe.stamp()
                try:
                    self._serve_once(seen, reload)
                except Error as problem:
                    if not reload:
                        raise
                    self._session.tell(f"error: {clean(problem.message)}")
                    self._session.tell("Waiting for a change of the script, the model or the schema ...")
                while self._recipe.stamp() == seen:
                    time.sleep(_LOOK_EVERY_S)
                self._session.tell("Changed: starting again")
        except KeyboardInterrupt:
            return 0

    def _serve_once(self, seen: dict[str, tuple[int, int, int]], reload: bool) -> None:
        """Until it ends, or until a watched file changes. Raises the error of a server that cannot become ready."""
        server = Server(lay_out(self._folder, self._recipe, self._port), self._recipe, self._session.environ)
        pump = threading.Thread(target=self._print_log, args=(server,), daemon=True)
        pump.start()
        told = False
        try:
            while not server.ended:
                if not told and is_ready(self._port):
                    self._tell_how()
                    told = True
                if reload and self._recipe.stamp() != seen:
                    break
                time.sleep(_LOOK_EVERY_S)
            if server.ended:
                pump.join(timeout=5)
                raise UserError(server.reason)
        finally:
            self._drain(server)
            pump.join(timeout=5)

    def _drain(self, server: Server) -> None:
        """A second Ctrl-C cuts it short."""
        try:
            if not server.ended:
                server.stop()
                server.process.wait()
        except KeyboardInterrupt:
            self._session.tell("Cut short")
        finally:
            server.kill()

    def _print_log(self, server: Server) -> None:
        for line in server.lines():
            self._session.tell(clean(readable(line), lines=True))

    def _tell_how(self) -> None:
        url = f"http://{HOST}:{self._port}"
        lines = [f"Scoring   {url}/score", f"Docs      {url}/docs", f"Try it    {curl(url, self._recipe)}"]
        print("\n".join(lines), file=self._session.stdout, flush=True)


def curl(url: str, recipe: Recipe) -> str:
    """A line to paste into a shell; the body is the first sample."""
    samples = samples_of(recipe)
    body = samples[0]["input"] if samples else "..."
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    if len(text) > _LONGEST_SAMPLE_CHARS:
        text = f"@{recipe.samples[0]}" if recipe.samples else "@body.json"
    key = f"-H {shlex.quote(f'Authorization: Bearer {recipe.key}')} " if recipe.key else ""
    return f"curl -s {key}-H 'Content-Type: application/json' --data {shlex.quote(text)} {url}/score"
