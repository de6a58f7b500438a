"""The options that make a manifest, shared by `manifest create`, `image create` and `service create|update`."""

import argparse
from typing import TYPE_CHECKING

from argosy.cli.parsing import Collect, Parser, file_argument, natural, positive

if TYPE_CHECKING:
    from argosy.sdk.recipes import RecipeOptions  # for the annotation; the SDK is loaded by the client

SCRIPT_HELP = (
    "the scoring script: init() and run(); generated when it is left out for one MLflow, ONNX, scikit-learn, XGBoost "
    "or LightGBM model"
)

_SERVING = ("string_answers", "max_batch_size", "max_batch_delay_ms")


def add(parser: Parser, *, registered_as: str, variables: bool = True) -> None:
    """`registered_as` tells the name that a model file gets. Without `variables`, -e and --secret are left out."""
    group = parser.add_argument_group("the recipe")
    group.add_argument(
        "-i",
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="a registered model, as NAME, NAME:VERSION or NAME@ALIAS; repeatable",
    )
    file_argument(
        group.add_argument(
            "-m",
            "--model-file",
            action="append",
            default=[],
            metavar="FILE|DIR",
            help=f"a model to register on the way, {registered_as}; repeatable",
        )
    )
    file_argument(group.add_argument("-f", "--script", metavar="FILE", help=SCRIPT_HELP))
    file_argument(group.add_argument("-c", "--conda-file", metavar="FILE", help="dependencies as a conda file"))
    group.add_argument(
        "--conda",
        action="store_const",
        const=True,
        help="take conda's own packages for the conda file, even where a package index has them",
    )
    file_argument(group.add_argument("-p", "--requirements", metavar="FILE", help="dependencies as requirements.txt"))
    file_argument(group.add_argument("-s", "--schema", metavar="FILE", help="the schema of inputs and output, as JSON"))
    file_argument(
        group.add_argument(
            "--sample",
            action="append",
            default=[],
            metavar="FILE",
            help="a request body as JSON that a replica must answer before it is ready, or "
            '{"input": body, "output": answer}; repeatable',
        )
    )
    file_argument(
        group.add_argument(
            "-D",
            "--dependency",
            action="append",
            default=[],
            metavar="FILE|DIR",
            help="a further file, or a folder that keeps its name, beside the script; repeatable",
        )
    )
    group.add_argument("-r", "--runtime", metavar="python:X.Y", help="the Python to run it with")
    group.add_argument("--from", dest="base", metavar="MANIFEST", help="take all that is not given from this manifest")
    add_serving(group)
    if variables:
        add_variables(group)


def add_serving(group: "argparse._ArgumentGroup | Parser") -> None:
    group.add_argument(
        "--string-answers",
        choices=("json", "raw"),
        help="send a str that run() returns as a JSON string (json), or as it is (raw)",
    )
    group.add_argument(
        "--max-batch-size",
        type=positive,
        metavar="ROWS",
        help="join requests that wait into one call of run(), up to so many rows; the first axis of every input must "
        "be the batch (1: never)",
    )
    group.add_argument(
        "--max-batch-delay-ms", type=natural, metavar="MS", help="let a batch wait so long for more requests (0)"
    )


def add_variables(group: "argparse._ArgumentGroup | Parser") -> None:
    group.add_argument("-e", "--variable", dest="variable", action=Collect, help="an environment variable; repeatable")
    group.add_argument(
        "--secret",
        action=Collect,
        metavar="K=REF",
        help="an environment variable whose value is "
        "looked up when a replica starts: env:NAME or file:/path; repeatable",
    )


def serving_of(args: argparse.Namespace) -> "dict[str, str | int]":
    return {name: value for name in _SERVING if (value := getattr(args, name)) is not None}


def says_what(args: argparse.Namespace) -> bool:
    """Whether the options name something to run: a script, a model or a manifest to start from."""
    return bool(args.script or args.base or args.model or args.model_file)


def chosen(args: argparse.Namespace, *, variables: bool = True) -> "RecipeOptions":
    return {
        "models": args.model,
        "model_files": args.model_file,
        "script": args.script,
        "files": args.dependency,
        "conda": args.conda_file,
        "with_conda": args.conda,
        "requirements": args.requirements,
        "schema": args.schema,
        "samples": args.sample,
        "runtime": args.runtime,
        "variables": args.variable if variables else {},
        "secrets": args.secret if variables else {},
        "serving": serving_of(args),
        "base": args.base,
    }
