"""A Deployment and a Service for Kubernetes; the variables come from a Secret."""

from typing import Any

from argosy.images.oci.build import PORT
from argosy.images.usage.place import STOP_S, USER, Place

_INIT_S = 600
_EVERY_S = 5


def secret_name(place: Place) -> str:
    return f"{place.plain_name}-variables"


def kubernetes(place: Place) -> list[dict[str, Any]]:
    labels = {"app.kubernetes.io/name": place.plain_name}
    meta = {"name": place.plain_name, "labels": labels}
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": STOP_S,
        "nodeSelector": {"kubernetes.io/arch": place.platform.partition("/")[2]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(place)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    service = {"selector": labels, "ports": [{"name": "http", "port": place.port, "targetPort": "http"}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    ]


def _container(place: Place) -> dict[str, Any]:
    return {
        "name": "replica",
        "image": place.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": PORT}],
        "envFrom": [{"secretRef": {"name": secret_name(place)}}],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": "http"},
            "periodSeconds": _EVERY_S,
            "failureThreshold": _INIT_S // _EVERY_S,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": _EVERY_S},
        # Patient: native code that holds the interpreter answers late, and is alive.
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 7,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 (in the container)
    }
