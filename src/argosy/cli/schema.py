"""`argosy schema ...`: files only, but for manifests that `diff` is asked to compare."""

import argparse
import json
from pathlib import Path
from typing import Any

from argosy.cli import parsing
from argosy.cli.output import Table
from argosy.cli.parsing import Parser, file_argument, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.errors import InvalidFile, InvalidOption, InvalidSchema, UserError
from argosy.schema.diff import diff
from argosy.schema.hints import from_script, run_parameters
from argosy.schema.samples import NoSchema, from_csv, from_json
from argosy_serving.schema import InvalidSchemaFile

_DEFAULT_INPUT = "data"
_LARGEST_FILE_BYTES = 100_000_000


def build(parser: Parser, name: str) -> None:
    group = parsing.commands(parser)
    infer = leaf(
        group,
        "infer",
        "Print a schema file made from a sample request, from rows, or from the type hints of run().",
        infer_schema,
        [
            "argosy schema infer rows.csv --script score.py > schema.json",
            "argosy schema infer sample.json > schema.json       # a request body",
            "argosy schema infer score.py > schema.json          # def run(text: str, limit: int = 10)",
        ],
        "Nothing is run: scripts are only read. Look through what was inferred: a column that is whole numbers in the\n"
        "sample refuses 1.5 later.",
    )
    file_argument(infer.add_argument("source", metavar="FILE", help="a .json or .csv sample, or a .py script"))
    infer.add_argument(
        "--input", metavar="NAME", help="what the input of rows or of a bare JSON value is called (data)"
    )
    file_argument(
        infer.add_argument("--script", metavar="FILE", help="take that name from the one parameter of its run()")
    )
    compare = leaf(
        group,
        "diff",
        "Say what changed between two schemas, and which change breaks callers. Exit code 1 when one does.",
        diff_schemas,
        ["argosy schema diff iris:1 schema.json", "argosy schema diff iris:1 iris:2 -o json"],
    )
    for place, summary in (("old", "the schema that callers know"), ("new", "the schema that shall replace it")):
        file_argument(compare.add_argument(place, metavar=place.upper(), help=f"{summary}: a file, or a manifest"))


def infer_schema(args: argparse.Namespace, session: Session) -> None:
    path = Path(args.source)
    text = _text(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".py":
            document = from_script(text)
        elif suffix in (".json", ".csv"):
            document = (from_json if suffix == ".json" else from_csv)(text, _input_name(args))
        else:
            raise InvalidFile(path, "must be a sample (.json, .csv) or a scoring script (.py).")
    except (NoSchema, ValueError) as problem:
        raise InvalidFile(path, f"{problem}.") from None
    if any(entry.get("shape") == [None, None] for entry in document["input"].values()) and suffix == ".py":
        session.tell("note: arrays are taken for tables; change `shape` where they are not")
    # A schema file is JSON, whatever -o says of results.
    form = session.output_format if session.output_format == "yaml" else "json"
    session.output_format = form
    session.show(document, lambda: [])


def diff_schemas(args: argparse.Namespace, session: Session) -> int:
    old, new = (_schema(reference, session) for reference in (args.old, args.new))
    try:
        changes = diff(old, new)
    except InvalidSchemaFile as problem:
        raise InvalidSchema(problem.pointer, problem.problem) from None
    breaking = any(change.breaking for change in changes)
    rows = [("breaking" if c.breaking else "compatible", c.where, c.what, c.why) for c in changes]
    data = {"breaking": breaking, "changes": [vars(change) for change in changes]}
    session.show(data, lambda: [Table(("change", "where", "what", "why"), rows, empty="The schemas take the same.")])
    return 1 if breaking else 0


def _schema(reference: str, session: Session) -> Any:
    path = Path(reference)
    if path.is_file() or path.suffix == ".json" or "/" in reference:
        try:
            return json.loads(_text(path))
        except (ValueError, RecursionError) as problem:
            raise InvalidFile(path, f"is not valid JSON: {problem}") from None
    manifest = session.client.manifests.show(reference)
    if manifest.recipe.schema is None:
        raise UserError(
            f"Manifest {clean(manifest.reference)} has no schema: run() gets the raw body, so nothing can be compared."
        )
    return manifest.recipe.schema


def _input_name(args: argparse.Namespace) -> str:
    if args.input:
        return str(args.input)
    if args.script is None:
        return _DEFAULT_INPUT
    names = run_parameters(_text(Path(args.script)))
    if len(names) != 1:
        shown = ", ".join(names) or "none"
        raise InvalidOption(
            "--script", args.script, f"run() must have one parameter to name the input after, it has: {shown}"
        )
    return names[0]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise InvalidFile(path, f"is larger than {_LARGEST_FILE_BYTES:,} bytes; a few rows are enough.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise InvalidFile(path, f"cannot be read: {problem.strerror or problem}.") from None
    except UnicodeDecodeError:
        raise InvalidFile(path, "is not UTF-8 text.") from None
