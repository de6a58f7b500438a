"""`argosy image push`, `pull` and `load`."""

import argparse

from argosy.cli import jobs, parsing
from argosy.cli.output import Block, Pairs
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.records import Operation


def build(group: "argparse._SubParsersAction[Parser]") -> None:
    push = leaf(
        group,
        "push",
        "Push an OCI image, its bill of materials and its provenance to a registry.",
        push_image,
        [
            "argosy image push iris registry.example.com/team/iris",
            "argosy image push iris:2 registry.example.com/team/iris:2.0 --tag latest",
        ],
        "Blobs that are there already are not sent. Without a tag it is the image's version; without a destination it "
        "goes\nbelow the setting `registry`.",
    )
    push.add_argument("reference", metavar="NAME[:VERSION]", help="a name means the latest version")
    push.add_argument("destination", metavar="HOST/PATH[:TAG]", nargs="?", help="where to")
    push.add_argument("--tag", action="append", default=[], metavar="TAG", help="a further tag; may be repeated")
    parsing.wait_option(push, "it is there")
    pull = leaf(
        group,
        "pull",
        "Pull an image that Argosy built from a registry.",
        pull_image,
        [
            "argosy image pull registry.example.com/team/iris:1",
            "argosy image pull registry.example.com/team/iris:1 -n flowers --platform linux/amd64",
        ],
        "It becomes a version of NAME here, with all its platforms. Containers run it; processes need its manifest.",
    )
    pull.add_argument("reference", metavar="HOST/PATH[:TAG]", help="what to pull; @sha256:... is as good as a tag")
    pull.add_argument("-n", "--name", help="what it is called here (the last part of its path)")
    pull.add_argument(
        "--platform", type=lambda text: text.split(","), default=[], metavar="OS/ARCH,...", help="only these (all)"
    )
    parsing.wait_option(pull, "it is here")
    load = leaf(
        group,
        "load",
        "Load an image that Argosy built from an archive.",
        load_image,
        ["argosy image load -f iris.tar", "argosy image load -f images.tar --tag iris:1 -n flowers"],
        "An OCI archive, or what docker save and podman save write. It becomes a version of NAME here.",
    )
    parsing.file_argument(load.add_argument("-f", "--file", required=True, metavar="FILE", help="the archive"))
    load.add_argument("-n", "--name", help="what it is called here (what the archive calls it)")
    load.add_argument("--tag", default="", metavar="TAG", help="which image, when the archive holds several")
    parsing.wait_option(load, "it is here")


def push_image(args: argparse.Namespace, session: Session) -> None:
    def finished(operation: Operation) -> tuple[object, list[Block]]:
        result = operation.result
        pairs = Pairs(
            (
                ("image", result["image"]),
                ("pushed", ", ".join(result["pushed"])),
                ("digest", result["digest"]),
                ("attached", f"{len(result['attached'])} documents"),
            )
        )
        return result, [pairs]

    jobs.run(
        session,
        jobs.Job(f"push {clean(args.reference)}", "argosy image list", args.wait),
        lambda progress: session.client.images.push(
            args.reference, args.destination, tags=args.tag, wait=args.wait, on_message=progress.message
        ),
        finished,
    )


def pull_image(args: argparse.Namespace, session: Session) -> None:
    jobs.run(
        session,
        jobs.Job(f"pull {clean(args.reference)}", "argosy image list", args.wait),
        lambda progress: session.client.images.pull(
            args.reference, name=args.name, platforms=args.platform, wait=args.wait, on_message=progress.message
        ),
        lambda operation: _arrived(session, operation),
    )


def load_image(args: argparse.Namespace, session: Session) -> None:
    jobs.run(
        session,
        jobs.Job(f"load {clean(args.file)}", "argosy image list", args.wait),
        lambda progress: session.client.images.load(
            args.file,
            name=args.name,
            tag=args.tag,
            wait=args.wait,
            on_message=progress.message,
            on_progress=progress.bytes,
        ),
        lambda operation: _arrived(session, operation),
    )


def _arrived(session: Session, operation: Operation) -> tuple[object, list[Block]]:
    image = session.client.images.show(str(operation.result["image"]))
    pairs = Pairs(
        (
            ("image", image.reference),
            ("from", image.source),
            ("models", ", ".join(pin.reference for pin in image.models)),
            *((platform, digest) for platform, digest in sorted(image.oci.items())),
        )
    )
    return image, [pairs]
