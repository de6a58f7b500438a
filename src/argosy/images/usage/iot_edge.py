"""A deployment manifest for Azure IoT Edge.

Its shape is what Microsoft publishes as `azure-iot-edge-deployment-2.0.json` (with `azure-iot-edgeagent-deployment-1.1`
and `azure-iot-edgehub-deployment-1.1`) in the JSON Schema Store, and describes in "Properties of the IoT Edge agent and
IoT Edge hub module twins": desired properties of `$edgeAgent` and `$edgeHub`, `createOptions` as JSON in a string.
"""

import json
from typing import Any

from argosy.images.oci.build import PORT
from argosy.images.usage.place import Place

_RUNTIME = "1.5"
_KEPT_S = 7200


def iot_edge(place: Place) -> dict[str, Any]:
    """Variables are written `${NAME}`, for `envsubst`; `$edgeAgent` and `$edgeHub` are IoT Edge's own words."""
    module = {
        "version": "1.0",
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        # Without a registry the device has loaded the archive, and must not ask anybody.
        "imagePullPolicy": "on-create" if place.pulled else "never",
        "settings": {"image": place.image, "createOptions": _compact(_create_options(place))},
        "env": {name: {"value": f"${{{name}}}"} for name in place.variables},
    }
    agent = {
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25", "registryCredentials": {}}},
        "systemModules": {"edgeAgent": _agent(), "edgeHub": _hub()},
        "modules": {place.plain_name: module},
    }
    hub = {"schemaVersion": "1.1", "routes": {}, "storeAndForwardConfiguration": {"timeToLiveSecs": _KEPT_S}}
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": agent},
            "$edgeHub": {"properties.desired": hub},
        }
    }


def _create_options(place: Place) -> dict[str, Any]:
    """As the engine's API has it. Short: a module twin holds little text in one string."""
    return {
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "HostConfig": {
            "PortBindings": {f"{PORT}/tcp": [{"HostPort": str(place.port)}]},
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": ""},  # noqa: S108 (in the container)
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
        },
    }


def _agent() -> dict[str, Any]:
    image = f"mcr.microsoft.com/azureiotedge-agent:{_RUNTIME}"
    return {"type": "docker", "settings": {"image": image, "createOptions": "{}"}}


def _hub() -> dict[str, Any]:
    ports = {f"{port}/tcp": [{"HostPort": str(port)}] for port in (443, 5671, 8883)}
    options = _compact({"HostConfig": {"PortBindings": ports}})
    return {
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "settings": {"image": f"mcr.microsoft.com/azureiotedge-hub:{_RUNTIME}", "createOptions": options},
    }


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
