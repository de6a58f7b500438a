"""`argosy image usage`: how to run an image where there is no Argosy."""

import argparse

from argosy.cli.output import Block
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean

_FILES = ("compose", "kubernetes", "iot-edge")


def build(group: "argparse._SubParsersAction[Parser]") -> None:
    usage = leaf(
        group,
        "usage",
        "Show how to run an OCI image elsewhere, with no Argosy there.",
        show_usage,
        [
            "argosy image usage iris",
            "argosy image usage iris --reference registry.example.com/models/iris:1 --format kubernetes",
            "argosy image usage iris --platform linux/arm64 --format iot-edge > deployment.json",
        ],
        "Commands for Docker, Podman, Compose, Kubernetes and Azure IoT Edge; with --format the file that one takes.\n"
        "Keys and secrets are variables: none is in a command, the image or a file.",
    )
    usage.add_argument("reference", metavar="NAME[:VERSION]", help="a name means the latest version")
    usage.add_argument("--format", choices=_FILES, help="print only the file for this tool")
    usage.add_argument("--platform", metavar="OS/ARCH", help="which platform, when it was built for several")
    usage.add_argument(
        "--reference",
        dest="elsewhere",
        metavar="IMAGE",
        help="its name in a registry, when it was pushed (else it is saved and loaded)",
    )
    usage.add_argument("--port", type=int, metavar="N", help="port on that machine (5001)")


def show_usage(args: argparse.Namespace, session: Session) -> None:
    found = session.client.images.usage(
        args.reference, platform=args.platform, elsewhere=args.elsewhere, port=args.port
    )
    if args.format is not None:
        text = found.files[args.format]
        session.show({"format": args.format, "file": text}, lambda: [clean(line) for line in text.splitlines()])
        return
    lines: list[Block] = [
        line
        for tool, commands in found.commands.items()
        for line in ("" if tool != "docker" else f"image {found.image}", f"# {tool}", *map(clean, commands))
    ]
    session.show(found, lambda: lines)
