"""All that `argosy image usage` shows."""

import json

import yaml

from argosy.images.usage import commands
from argosy.images.usage.compose import compose
from argosy.images.usage.iot_edge import iot_edge
from argosy.images.usage.kubernetes import kubernetes
from argosy.images.usage.place import Place
from argosy.records import ImageUsage


def usage(place: Place, reference: str, options: list[str]) -> ImageUsage:
    """`options` are those of the command line that asked, which the commands repeat."""
    again = ["argosy", "image", "usage", reference, *options]
    ready = {p: [*commands.prepare(place), *commands.fetch(place, reference, p)] for p in ("docker", "podman")}
    ask = commands.ask(place)
    return ImageUsage(
        place.image,
        {
            **{program: [*lines, commands.run(place, program), ask] for program, lines in ready.items()},
            "compose": [*ready["docker"], *commands.compose(again), ask],
            "kubernetes": [*commands.prepare(place), *commands.kubernetes(place, again), ask],
            "iot-edge": [*ready["docker"], *commands.iot_edge(place, again)],
        },
        {
            "compose": yaml.safe_dump(compose(place), sort_keys=False),
            "kubernetes": yaml.safe_dump_all(kubernetes(place), sort_keys=False),
            "iot-edge": json.dumps(iot_edge(place), indent=2) + "\n",
        },
    )
