"""`--base`: what a container image stands on."""

import argparse
import os

from argosy.cli.parsing import Parser

HELP = (
    "what its container image stands on, with the manifest's Python in it: oci:DIR[:TAG], oci-archive:FILE or "
    "docker-archive:FILE, as the control plane finds them, or an image of a registry (the setting base_image)"
)


def add(group: "argparse._ArgumentGroup | Parser") -> None:
    group.add_argument("--base", dest="base_image", metavar="IMAGE", help=HELP)


def absolute(base: str | None) -> str | None:
    """A path is meant from where the command runs, which is not where the control plane does."""
    kind, colon, path = (base or "").partition(":")
    if not colon or kind not in ("oci", "oci-archive", "docker-archive"):
        return base
    return f"{kind}:{os.path.abspath(os.path.expanduser(path))}"  # noqa: PTH100, PTH111 (a tag may follow the path)
