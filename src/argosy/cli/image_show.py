"""`argosy image show`: layers, models, packages, where it runs, and what is attached to it."""

import argparse
import json

from argosy.cli.output import Block, Pairs, Table
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import moment, size
from argosy.cli.uses import uses
from argosy.records import Image, Service


def build(group: "argparse._SubParsersAction[Parser]") -> None:
    show = leaf(
        group,
        "show",
        "Show an image: its layers, models and packages, where it runs.",
        show_image,
        [
            "argosy image show iris",
            "argosy image show iris:2 -o json",
            "argosy image show iris --sbom --platform linux/arm64 > iris.cdx.json",
        ],
    )
    show.add_argument("reference", metavar="NAME[:VERSION]", help="a name shows the latest version")
    documents = show.add_mutually_exclusive_group()
    documents.add_argument("--sbom", action="store_true", help="print the bill of materials, CycloneDX 1.6 JSON")
    documents.add_argument("--provenance", action="store_true", help="print what it was built from, in-toto JSON")
    show.add_argument("--platform", metavar="OS/ARCH", help="of which platform, when there are several")


def show_image(args: argparse.Namespace, session: Session) -> None:
    if args.sbom or args.provenance:
        read = session.client.images.sbom if args.sbom else session.client.images.provenance
        document = read(args.reference, platform=args.platform)
        session.show(document, lambda: [json.dumps(document, indent=1, ensure_ascii=False)])
        return
    image = session.client.images.show(args.reference)
    running = [each for each in session.client.services.list() if each.image == image.reference]
    session.show(image, lambda: _blocks(image, running))


def _blocks(image: Image, running: list[Service]) -> list[Block]:
    plan = Table(
        ("layer", "title", "size", "key"),
        [(x.kind, x.title, "" if x.size_bytes is None else size(x.size_bytes), x.key) for x in image.layers],
        title="layers",
    )
    contents = [
        Table(
            ("layer", "size", "digest"),
            [(x.title, size(x.size_bytes), x.digest) for x in found.layers],
            title=f"{found.platform}  {found.digest}  {size(sum(x.size_bytes for x in found.layers))}",
        )
        for found in image.contents
    ]
    packages = Table(("package", "version"), sorted(image.packages.items()), title="packages")
    services = Table(
        ("service", "environment", "state", "replicas", "url"),
        [(s.name, s.environment, s.state, f"{s.replicas_ready}/{s.replicas_wanted}", s.url) for s in running],
        title="runs in",
    )
    tables = [plan, *contents, *([packages] if image.packages else []), *([services] if running else [])]
    return [details(image), *(block for table in tables for block in ("", table))]


def details(image: Image) -> Pairs:
    return Pairs(
        (
            ("image", image.reference),
            ("state", image.state),
            ("description", image.description),
            ("digest", image.digest),
            ("manifest", image.manifest or image.manifest_digest),
            ("from", image.source),
            ("models", ", ".join(pin.reference for pin in image.models)),
            ("environment", image.environment_key),
            ("serving runtime", image.serving_runtime),
            ("created (UTC)", moment(image.created_at)),
            ("used by", uses(image.used_by)),
        )
    )
