"""`argosy image dockerfile`: an image as what Docker and Podman build by hand."""

import argparse

from argosy.cli import parsing
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean


def build(group: "argparse._SubParsersAction[Parser]") -> None:
    made = leaf(
        group,
        "dockerfile",
        "Show an OCI image as a Dockerfile, or write it with all it needs.",
        show_dockerfile,
        [
            "argosy image dockerfile iris",
            "argosy image dockerfile iris -f iris-context.tar",
        ],
        "The base, the steps, and Argosy's layers as archives that ADD unpacks. The archive of -f, unpacked into a\n"
        "folder, is what `docker build FOLDER` and `podman build FOLDER` take.",
    )
    made.add_argument("reference", metavar="NAME[:VERSION]", help="a name means the latest version")
    parsing.file_argument(
        made.add_argument("-f", "--file", metavar="FILE", help="write the whole build context to this archive")
    )
    made.add_argument("--platform", metavar="OS/ARCH", help="which platform, when it was built for several")
    made.add_argument("--overwrite", action="store_true", help="replace the file if it is there")


def show_dockerfile(args: argparse.Namespace, session: Session) -> None:
    if args.file is None:
        text = session.client.images.dockerfile(args.reference, platform=args.platform)
        session.show({"dockerfile": text}, lambda: [clean(line) for line in text.splitlines()])
        return
    with session.progress(f"dockerfile {clean(args.reference)}") as progress:
        path = session.client.images.build_context(
            args.reference, args.file, platform=args.platform, overwrite=args.overwrite, on_progress=progress.bytes
        )
    session.show({"saved": str(path)}, lambda: [clean(path)])
