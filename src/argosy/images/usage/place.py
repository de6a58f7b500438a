"""What an image needs to run somewhere, whatever runs it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from argosy.images.oci.build import PORT
from argosy.records import Image, Manifest

KEYS = "ARGOSY_KEYS"
# "true": what the script collects is printed as CSV into the log of the container, which is all that it has.
COLLECT = "AML_MODEL_DC_DEBUG"
USER = 65532
# Time for requests that are at work when it is told to stop: the default time-out of one, and five seconds.
STOP_S = 65


@dataclass(frozen=True)
class Place:
    """`name` is what the container is called there, `image` the image, `port` where it is reached from outside.

    `variables` are the names of those that whoever runs it must give.
    """

    name: str
    image: str
    platform: str
    port: int
    variables: Sequence[str]
    sample: Any

    @property
    def plain_name(self) -> str:
        """For tools whose names have no dots and begin with a letter."""
        name = self.name.replace(".", "-")
        return name if name[0].isalpha() else f"m-{name}"

    @property
    def pulled(self) -> bool:
        """Whether the image has a registry to come from; else it is loaded from its archive."""
        return "/" in self.image


def place_of(image: Image, manifest: Manifest, platform: str, elsewhere: str | None, port: int | None) -> Place:
    """`elsewhere` is the image's name in a registry."""
    samples = manifest.recipe.samples or []
    secrets = sorted(set(manifest.recipe.secrets) - {KEYS, COLLECT})
    sample = samples[0].get("input") if samples else None
    return Place(image.name, elsewhere or image.reference, platform, port or PORT, [KEYS, *secrets, COLLECT], sample)


def check_elsewhere(name: str) -> bool:
    """Whether it can be an image's name: nothing that a shell or a file would read as something else."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}", name) is not None
