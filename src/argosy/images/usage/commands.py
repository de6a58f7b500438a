"""The commands that run an image, to be typed or pasted on the machine where it shall run.

A value is a variable of the shell and goes from there by pipe or environment, so that no list of processes shows it:
`printf` is the shell's own.
"""

import json
import shlex
from collections.abc import Sequence

from argosy.images.oci.build import PORT
from argosy.images.usage.kubernetes import secret_name
from argosy.images.usage.place import COLLECT, KEYS, Place

_JSON = "Content-Type: application/json"


def prepare(place: Place) -> list[str]:
    """Values for the variables."""
    others = [f"export {name}=..." for name in place.variables if name not in (KEYS, COLLECT)]
    collect = f"export {COLLECT}=false  # true: what the script collects is printed into the log"
    return [f'export {KEYS}="$(openssl rand -hex 32)"', *others, collect]


def fetch(place: Place, reference: str, program: str) -> list[str]:
    """How the image comes there: from its registry, or from an archive written where Argosy is."""
    if place.pulled:
        return [f"{program} pull --platform {place.platform} {place.image}"]
    file = f"{place.name}.tar"
    return [
        f"argosy image save {reference} -f {file} --platform {place.platform}  # where Argosy is",
        f"{program} load --input {file}",
    ]


def run(place: Place, program: str) -> str:
    words = [
        *(program, "run", "--detach", "--name", place.name, "--publish", f"127.0.0.1:{place.port}:{PORT}"),
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),  # noqa: S108
        *(word for name in place.variables for word in ("--env", name)),
        place.image,
    ]
    return shlex.join(words)


def ask(place: Place) -> str:
    """A request with the manifest's first sample, of the container on this machine."""
    body = "..." if place.sample is None else json.dumps(place.sample, ensure_ascii=False)
    key = f"printf 'Authorization: Bearer %s' \"${KEYS}\""
    return f"{key} | curl -H @- -H {shlex.quote(_JSON)} -d {shlex.quote(body)} http://127.0.0.1:{place.port}/score"


def kubernetes(place: Place, again: Sequence[str]) -> list[str]:
    missing = [] if place.pulled else ["# its nodes pull it: push it to a registry, and name it there with --reference"]
    # From a name alone kubectl takes the value of its environment.
    names = f"printf '%s\\n' {' '.join(place.variables)}"
    return [
        *missing,
        f"{names} | kubectl create secret generic {secret_name(place)} --from-env-file=/dev/stdin",
        f"{shlex.join([*again, '--format', 'kubernetes'])} | kubectl apply -f -",
        f"kubectl rollout status deployment/{place.plain_name}",
        f"kubectl port-forward service/{place.plain_name} {place.port}:{place.port}",
    ]


def iot_edge(place: Place, again: Sequence[str]) -> list[str]:
    names = " ".join(f"${name}" for name in place.variables)
    # The tool reads nothing but a file: nobody else may, and it does not stay.
    written = f"{shlex.join([*again, '--format', 'iot-edge'])} | envsubst '{names}' > deployment.json"
    return [
        f"rm -f deployment.json; (umask 077; {written})",
        "az iot edge set-modules --hub-name HUB --device-id DEVICE --content deployment.json",
        "rm deployment.json",
    ]


def compose(again: Sequence[str]) -> list[str]:
    return [f"{shlex.join([*again, '--format', 'compose'])} > compose.yaml", "docker compose up --detach"]
