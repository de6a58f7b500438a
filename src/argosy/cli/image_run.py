"""`argosy image run`: one replica of an image for a moment, and what it answers."""

import argparse
from collections.abc import Mapping
from typing import Any

from argosy.cli import parsing
from argosy.cli.local_server import readable
from argosy.cli.manifest_test import sample_blocks
from argosy.cli.output import Block
from argosy.cli.parsing import leaf
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.sdk.operations import succeeded


def build(group: "argparse._SubParsersAction[Any]") -> None:
    run = leaf(
        group,
        "run",
        "Start one container of an image, score a sample, and stop it; exit code 1 when that does not work.",
        run_image,
        ["argosy image run iris", "argosy image run iris:2 --sample sample.json", "argosy image run iris --env box"],
        "The container is as a service's would be. Without a container engine, or for an image that was not built as\n"
        "OCI, it is a process of the control plane's machine, and that is said.",
    )
    run.add_argument("reference", metavar="NAME[:VERSION]", help="a name means the latest version")
    parsing.file_argument(
        run.add_argument(
            "--sample",
            metavar="FILE",
            help='a request body as JSON, or {"input": body, "output": answer}; the manifest\'s first by default',
        )
    )
    run.add_argument("--env", metavar="ENV", help="the environment whose container engine it runs in")


def run_image(args: argparse.Namespace, session: Session) -> int:
    with session.progress(f"run {clean(args.reference)}") as progress:
        operation = succeeded(
            session.client.images.run(
                args.reference, sample=args.sample, environment=args.env, on_message=progress.message
            )
        )
    image, report = str(operation.result["image"]), operation.result["run"]
    session.show({"image": image, **report}, lambda: _blocks(image, report))
    return 0 if report["ok"] else 1


def _blocks(image: str, report: Mapping[str, Any]) -> list[Block]:
    where = clean(report["where"])
    if report["failure"]:
        blocks: list[Block] = [f"{image} does not become ready as {where}: {clean(report['failure'])}"]
    else:
        blocks = [f"{image} was ready after {report['load_s']:.1f} s, as {where}"]
        if not report["answers"]:
            blocks.append("It has no sample to answer: give one with --sample FILE.")
    for number, answer in enumerate(report["answers"], 1):
        blocks += sample_blocks(number, answer)
        if answer["status"] != 200:
            blocks.append(f"sample {number} was answered with HTTP {answer['status']}")
    return blocks + [f"  | {clean(part)}" for line in report["log"] for part in _readable(line).splitlines()]


def _readable(line: str) -> str:
    try:
        return readable(line)
    except (ValueError, AttributeError, TypeError):
        return line
