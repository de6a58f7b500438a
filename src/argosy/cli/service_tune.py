"""`argosy service tune`: measure a scratch replica and propose limits."""

import argparse
from collections.abc import Mapping
from typing import Any

from argosy.cli.output import Block, Pairs, Table
from argosy.cli.parsing import Parser, leaf, rate
from argosy.cli.service_call import request_body
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.sdk.operations import succeeded

_BAR_CHARS = 24


def build(group: "argparse._SubParsersAction[Parser]") -> None:
    tune = leaf(
        group,
        "tune",
        "Measure what a replica can do, and propose concurrency, queue, batches and replicas.",
        tune_service,
        ["argosy service tune iris", "argosy service tune iris --rate 500", "argosy service tune iris --last"],
        "A scratch replica of the live image answers the stored sample under more and more callers, for about a\n"
        "minute; the service itself is not touched. Callers and replica share this machine's cores: on a busy machine\n"
        "the numbers are low.",
    )
    tune.add_argument("name", metavar="NAME", help="the service's name")
    tune.add_argument("-d", "--data", metavar="JSON|@FILE|-", help="the request's body; the stored samples by default")
    tune.add_argument("--rate", type=rate, metavar="N", help="requests a second that the replicas shall carry")
    tune.add_argument("--last", action="store_true", help="show what the last tuning found, and measure nothing")


def tune_service(args: argparse.Namespace, session: Session) -> None:
    if args.last:
        found = session.client.services.tuning(args.name)
    else:
        body = request_body(args.data)
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        name = clean(args.name)
        session.going_on = f"The control plane goes on measuring; `argosy service tune {name} --last` shows the result."
        with session.progress(f"tune {name}") as progress:
            operation = session.client.services.tune(
                args.name,
                body=text,
                rate=args.rate,
                on_message=progress.message,
            )
        session.going_on = ""
        found = succeeded(operation).result["tuning"]
    session.show(found, lambda: _blocks(found))


def _blocks(found: Mapping[str, Any]) -> list[Block]:
    proposal = found["proposal"]
    scaled = found["current"]["autoscale_enabled"]
    return [
        _curves(found),
        "",
        Pairs(
            (
                ("at once", proposal["max_concurrent_requests"]),
                ("batches of", f"{proposal['max_batch_size']} rows" if proposal["max_batch_size"] > 1 else "1 (off)"),
                ("queue", proposal["max_queued_requests"]),
                ("replicas", f"{proposal['replicas']}, for {proposal['rate']:.0f} requests/s together"),
            ),
            title="proposal",
        ),
        "",
        *(f"- {clean(reason)}" for reason in proposal["reasons"]),
        *([_about_autoscale(found)] if scaled else []),
        "",
        _command(found),
    ]


def _curves(found: Mapping[str, Any]) -> Table:
    best = max(point["rate"] for curve in found["curves"] for point in curve["points"])
    rows = []
    for curve in found["curves"]:
        for point in curve["points"]:
            bar = "█" * max(1, round(_BAR_CHARS * point["rate"] / best))
            knee = " ← knee" if point["clients"] == curve["knee"] else ""
            rows.append(
                (
                    curve["slots"], curve["batch"], point["clients"], f"{point['rate']:.0f}", f"{point['p50_ms']:.1f}",
                    f"{point['p99_ms']:.1f}", f"{point['cores']:.2f}", bar + knee,
                )
            )  # fmt: skip
    return Table(("at once", "batch", "callers", "answers/s", "p50 ms", "p99 ms", "cores", "throughput"), rows)


def _about_autoscale(found: Mapping[str, Any]) -> str:
    proposal, most = found["proposal"], found["current"]["max_replicas"]
    each = proposal["rate"] / proposal["replicas"]
    carried = f"- the autoscaler sets the replicas: the {most} of max_replicas carry {most * each:.0f} requests/s"
    if most == proposal["replicas"]:
        return carried
    return f"{carried}, --max-replicas {proposal['replicas']} would carry {proposal['rate']:.0f}"


def _command(found: Mapping[str, Any]) -> str:
    """Only what it does not have yet needs a new image, and the number of an autoscaled service cannot be set."""
    proposal, current = found["proposal"], found["current"]
    size = proposal["max_batch_size"]
    batch = f" --max-batch-size {size}" if size != current["max_batch_size"] else ""
    replicas = "" if current["autoscale_enabled"] else f" -z {proposal['replicas']}"
    return (
        f"argosy service update {clean(found['service'])}"
        f" --max-concurrent-requests {proposal['max_concurrent_requests']}"
        f" --max-queued-requests {proposal['max_queued_requests']}{batch}{replicas}"
    )
