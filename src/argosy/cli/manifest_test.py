"""`argosy manifest test`: what the samples are answered in the image's own environment."""

import argparse
import difflib
import json
from collections.abc import Mapping
from typing import Any

from argosy.cli.local_server import readable
from argosy.cli.output import Block, Table
from argosy.cli.parsing import leaf
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.errors import UserError
from argosy.records import Reference
from argosy.sdk.operations import succeeded

_STAGES = ("queue", "decode", "run", "encode")
_LONGEST_SHOWN_CHARS = 1000
_LONGEST_DIFF_LINES = 40


def build(group: "argparse._SubParsersAction[Any]") -> None:
    test = leaf(
        group,
        "test",
        "Answer the samples in the environment of the manifest's image; exit code 1 when one fails or differs.",
        test_manifest,
        [
            "argosy manifest test iris",
            "argosy manifest test iris:2 --record     # a new version that keeps the answers",
        ],
        "The environment is built when it is missing. No service is touched.",
    )
    test.add_argument("reference", metavar="NAME[:VERSION]", help="a name tests the latest version")
    test.add_argument(
        "--record", action="store_true", help="when all is well, make a new version with the answers recorded"
    )


def test_manifest(args: argparse.Namespace, session: Session) -> int:
    title = f"test {clean(args.reference)}"
    session.going_on = "The control plane goes on testing; `argosy manifest test` begins another test."
    with session.progress(title) as progress:
        operation = succeeded(session.client.manifests.test(args.reference, on_message=progress.message))
    session.going_on = ""
    tested, report = str(operation.result["manifest"]), operation.result["test"]
    session.show({"manifest": tested, **report}, lambda: _blocks(tested, report))
    failed = [answer for answer in report["answers"] if answer["status"] != 200]
    if args.record:
        if report["failure"] or failed or not report["answers"]:
            raise UserError("Nothing is recorded: there must be samples, and all of them must be answered.")
        _record(tested, report, session)
        return 0
    return 0 if report["ok"] else 1


def _record(tested: str, report: Mapping[str, Any], session: Session) -> None:
    manifest = session.client.manifests.show(tested)
    samples = [
        {**sample, "output": answer["output"]}
        for sample, answer in zip(manifest.recipe.samples, report["answers"], strict=True)
    ]
    name = Reference.parse("manifest", tested).name
    made = succeeded(session.client.manifests.create(name, base=tested, samples=samples))
    session.tell(f"recorded in manifest {clean(made.result['manifest'])}")


def _blocks(tested: str, report: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    if report["failure"]:
        blocks.append(f"{tested} does not become ready: {clean(report['failure'])}")
    else:
        blocks.append(f"{tested} was ready after {report['load_s']:.1f} s")
        rows = [
            (number, _verdict(answer), *(_milliseconds(answer["times_ms"].get(stage)) for stage in _STAGES))
            for number, answer in enumerate(report["answers"], 1)
        ]
        headers = ("sample", "result", *(f"{stage} ms" for stage in _STAGES))
        blocks.append(Table(headers, rows, empty="There are no samples: add one with --sample."))
    for number, answer in enumerate(report["answers"], 1):
        blocks += sample_blocks(number, answer)
    blocks += [f"warning: {clean(text)}" for text in dict.fromkeys(w for a in report["answers"] for w in a["warnings"])]
    blocks += [f"fix: {clean(text)}" for text in report["advice"]]
    if not report["ok"]:
        blocks += [f"  | {clean(part)}" for line in report["log"] for part in readable(line).splitlines()]
    return blocks


def sample_blocks(number: int, answer: Mapping[str, Any]) -> list[Block]:
    shown: list[Block] = [f"sample {number} input   {_short(answer['input'])}"]
    shown.append(f"sample {number} output  {_short(answer['output'])}")
    if answer["difference"]:
        shown.append(f"sample {number} differs from the recorded answer: {clean(answer['difference'])}")
        shown += [f"  {clean(line)}" for line in difference(answer["recorded"], answer["output"])]
    return shown


def difference(recorded: Any, received: Any) -> list[str]:
    """A unified diff of two JSON values, without headers."""
    before, after = (
        json.dumps(v, indent=1, ensure_ascii=False, sort_keys=True).splitlines() for v in (recorded, received)
    )
    lines = list(difflib.unified_diff(before, after, "recorded", "received", lineterm="", n=2))
    more = [f"... and {len(lines) - _LONGEST_DIFF_LINES} more lines"] if len(lines) > _LONGEST_DIFF_LINES else []
    return lines[:_LONGEST_DIFF_LINES] + more


def _verdict(answer: Mapping[str, Any]) -> str:
    if answer["status"] != 200:
        return f"HTTP {answer['status']}" if answer["status"] else "no answer"
    if answer["difference"]:
        return "differs"
    return "ok" if answer["recorded"] is None else "as recorded"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _short(value: Any) -> str:
    text = clean(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST_SHOWN_CHARS else f"{text[:_LONGEST_SHOWN_CHARS]} ... ({len(text)} characters)"
