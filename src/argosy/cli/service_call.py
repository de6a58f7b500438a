"""`argosy service run|usage|keys|logs`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from argosy.cli.output import Block, Pairs
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.errors import InvalidFile
from argosy.records import ServiceUsage


def run_service(args: argparse.Namespace, session: Session) -> None:
    answer = session.client.services.run(
        args.name, request_body(args.data), content_type=args.content_type or "application/json"
    )
    if isinstance(answer, bytes):
        _write_bytes(answer, args, session)
        return
    session.show(answer, lambda: [clean(json.dumps(answer, ensure_ascii=False), lines=True)])


def request_body(text: str | None) -> bytes | str | None:
    """The body as it was given: JSON text, a file behind `@`, or stdin for `-`."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text is None or not text.startswith("@"):
        return text
    path = Path(text[1:]).expanduser()
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InvalidFile(path, f"cannot be read: {problem.strerror} (working directory {Path.cwd()})") from problem


def _write_bytes(answer: bytes, args: argparse.Namespace, session: Session) -> None:
    """What is no JSON goes out as it came, so that it can be piped into a file."""
    session.stdout.flush()
    raw = getattr(session.stdout, "buffer", None)
    if args.output != "table":
        import base64

        session.show({"base64": base64.b64encode(answer).decode()}, list)
    elif raw is not None and not session.stdout.isatty():
        raw.write(answer)
    else:
        print(clean(answer.decode("utf-8", "replace"), lines=True), file=session.stdout)


def show_usage(args: argparse.Namespace, session: Session) -> None:
    usage = session.client.services.usage(args.name)
    session.show(usage, lambda: _usage(usage))


def _usage(usage: ServiceUsage) -> list[Block]:
    sample = None if usage.sample is None else json.dumps(usage.sample, ensure_ascii=False)
    return [
        Pairs(
            (
                ("service", usage.name),
                ("scoring URL", usage.scoring_url),
                ("swagger URL", usage.swagger_url),
                ("docs URL", usage.docs_url),
                ("sample", sample),
                ("CA file", usage.ca_file),
                *((f"header {name}", value) for name, value in usage.headers.items()),
            )
        ),
        "",
        "From the command line:",
        f"  {clean(usage.cli)}",
        "",
        "By curl:",
        f"  {clean(usage.curl, lines=True)}",
        "",
        "Keys and logs:",
        f"  {clean(usage.keys_command)}",
        f"  {clean(usage.logs_command)}",
    ]


def show_keys(args: argparse.Namespace, session: Session) -> None:
    services = session.client.services
    if args.regenerate:
        keys = services.regenerate_key(args.name, args.regenerate)
        session.tell(f"the {args.regenerate} key is new; the old one is refused from now on")
    else:
        keys = services.keys(args.name)
    if args.show:
        value = keys.primary if args.show == "primary" else keys.secondary
        session.show({args.show: value}, lambda: [value])
        return
    session.show(keys, lambda: [Pairs((("primary", keys.primary), ("secondary", keys.secondary)))])


def show_logs(args: argparse.Namespace, session: Session) -> None:
    """Printed line by line as they come; `-o json` is a line of JSON each, and yaml a document each."""
    for record in session.client.services.logs(
        args.name, lines=args.lines, request_id=args.request_id, follow=args.follow
    ):
        print(_log_text(record, args.output), file=session.stdout, flush=args.follow)


def _log_text(record: dict[str, Any], form: str) -> str:
    if form == "json":
        return json.dumps(record, ensure_ascii=False)
    if form == "yaml":
        import yaml

        return "---\n" + str(yaml.safe_dump(record, sort_keys=False, allow_unicode=True)).rstrip()
    fields = ("timestamp", "level", "replica", "request_id", "message")
    text = " ".join(clean(value) for name in fields if (value := record.get(name)) not in (None, ""))
    trace = record.get("exception")
    return text + (f"\n{clean(trace, lines=True).rstrip()}" if trace else "")
