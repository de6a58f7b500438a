"""A Compose file (the Compose specification, without a version) for Docker Compose and Podman Compose."""

from typing import Any

from argosy.images.oci.build import PORT
from argosy.images.usage.place import COLLECT, STOP_S, Place

_READY = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/readyz')"


def _value(name: str) -> str:
    return f"${{{name}:-false}}" if name == COLLECT else f"${{{name}:?give it a value}}"


def compose(place: Place) -> dict[str, Any]:
    return {
        "services": {
            place.name: {
                "image": place.image,
                "platform": place.platform,
                "restart": "unless-stopped",
                "stop_grace_period": f"{STOP_S}s",
                "read_only": True,
                "tmpfs": ["/tmp"],  # noqa: S108 (in the container)
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges"],
                "ports": [f"127.0.0.1:{place.port}:{PORT}"],
                "environment": {name: _value(name) for name in place.variables},
                "healthcheck": {"test": ["CMD", "python", "-c", _READY], "interval": "10s", "start_period": "600s"},
            }
        }
    }
