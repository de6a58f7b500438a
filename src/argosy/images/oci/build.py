"""Builds OCI images without a daemon and without root: layers and manifests are written straight into the layout.

In the image, `/opt/argosy` is a virtual environment on the base's Python:

    bin/python, pyvenv.cfg           points at the base's Python
    lib/python3.X/site-packages      the locked packages
    bin, lib, share, conda-meta, ... conda's packages with their own Python, where the manifest has such
    runtime/argosy_serving           the serving runtime
    image/image.json, image/code     what the manifest says, the script and its files
    image/models/<name>/<version>    the models, each a layer of its own

`image.json` stands in the code layer without models and digests: a retrained model changes its own layer and the
config, nothing else.
"""

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from argosy.images.conda import locked_packages
from argosy.images.oci.base import Base
from argosy.images.oci.layers import Content, LayerBlob, known_layer, layer_key, link_to, write_layer
from argosy.images.oci.layout import BASE_DIGEST, CONFIG, INDEX, MANIFEST, Descriptor, OciLayout, canonical
from argosy.images.oci.packages import PREFIX, PYTHON, Packages
from argosy.images.oci.platforms import Platform
from argosy.images.plan import ModelContent, Plan, image_json
from argosy.images.runtimes import runtime_digest, runtime_files
from argosy.images.unpack import BlobPath
from argosy.manifests.channels import Channels
from argosy.manifests.uv import Index
from argosy.records import Manifest, encode

USER, PORT = "65532:65532", 5001
_IMAGE, _RUNTIME = f"{PREFIX}/image", f"{PREFIX}/runtime"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Fixed: a digest covers what is in an image, never when it was made.
CREATED = "1970-01-01T00:00:00Z"
_PER_IMAGE = ("digest", "manifest", "models")


@dataclass(frozen=True)
class Recipe:
    """What is built: a manifest with the files of its models, as planned."""

    manifest: Manifest
    models: Sequence[ModelContent]
    plan: Plan
    index: Index
    channels: Channels = field(default_factory=Channels)


class OciBuilder:
    """Everything it writes is keyed by content, so a build that was cut short goes on where it was."""

    def __init__(self, layout: OciLayout, blob_path: BlobPath) -> None:
        self._layout = layout
        self._blob_path = blob_path

    def build(self, recipe: Recipe, base: Base, platform: Platform, say: Callable[[str], None]) -> Descriptor:
        """The manifest for one platform; nothing is tagged yet."""
        layers = [
            self._dependencies(recipe, platform, say),
            self._runtime(recipe, base, say),
            self._code(recipe, say),
            *(self._model(model, say) for model in sorted(recipe.models, key=lambda m: (m.pin.name, m.pin.version))),
        ]
        config = _config(recipe, base, platform, layers)
        config_digest, config_size = self._layout.add_json(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": Descriptor(CONFIG, config_digest, config_size).json(),
            "layers": [layer.described() for layer in (*base.layers, *layers)],
            "annotations": {BASE_DIGEST: base.digest, **base.annotations},
        }
        digest, size_bytes = self._layout.add_json(manifest)
        return Descriptor(MANIFEST, digest, size_bytes, platform.name)

    def publish(self, name: str, manifests: Sequence[Descriptor]) -> str:
        """Tag an index of these manifests; its digest."""
        ordered = sorted(manifests, key=lambda m: m.platform)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [each.json() for each in ordered]}
        digest, size_bytes = self._layout.add_json(index)
        self._layout.tag(name, Descriptor(INDEX, digest, size_bytes))
        return digest

    # -- layers --------------------------------------------------------------------------------------------------

    def _dependencies(self, recipe: Recipe, platform: Platform, say: Callable[[str], None]) -> LayerBlob:
        lock = recipe.manifest.recipe.lock
        title = f"dependencies: {len(lock.packages)} locked packages"
        conda = {"conda": encode(locked_packages(lock, platform.conda))} if lock.conda else {}
        content = {"lock": lock.text, "python": lock.python, "platform": platform.wheels, **conda}
        key = layer_key("dependencies", content)
        if known := known_layer(self._layout, key, title):
            return known
        say(f"Installing {len(lock.packages)} packages for {platform.name}, Python {lock.python}")
        with Packages(self._layout.work, recipe.index, say, recipe.channels) as packages:
            return write_layer(self._layout, key, title, packages.files(lock, platform))

    def _runtime(self, recipe: Recipe, base: Base, say: Callable[[str], None]) -> LayerBlob:
        python = recipe.manifest.recipe.lock.python
        title = f"runtime: {recipe.plan.labels['io.argosy.serving']}"
        key = layer_key("runtime", {"runtime": runtime_digest(), "base": base.python, "python": python})
        settings = (
            f"home = {posixpath.dirname(base.python)}\ninclude-system-site-packages = false\nversion = {python}\n"
        )
        # Without a base's Python there is conda's, in its own place.
        links = {
            PYTHON.lstrip("/"): link_to(base.python),
            f"{PREFIX}/bin/python3": link_to("python"),
            f"{PREFIX}/pyvenv.cfg": Content(settings.encode()),
        }
        files = {
            **(links if base.python else {}),
            **{f"{_RUNTIME}/argosy_serving/{name}": Content(path) for name, path in runtime_files().items()},
        }
        return self._layer(key, title, files, say)

    def _code(self, recipe: Recipe, say: Callable[[str], None]) -> LayerBlob:
        described = image_json(recipe.plan.digest, recipe.manifest, recipe.models)
        shared = {key: value for key, value in described.items() if key not in _PER_IMAGE}
        entries = recipe.manifest.recipe.files
        files = {
            f"{_IMAGE}/image.json": Content(canonical(shared)),
            **{f"{_IMAGE}/code/{entry.path}": Content(self._blob_path(entry.sha256)) for entry in entries},
        }
        key = layer_key("code", {"image": shared, "files": [[entry.path, entry.sha256] for entry in entries]})
        return self._layer(key, f"code: {recipe.manifest.recipe.script}", files, say)

    def _model(self, model: ModelContent, say: Callable[[str], None]) -> LayerBlob:
        folder = f"{_IMAGE}/models/{model.pin.name}/{model.pin.version}"
        files = {f"{folder}/{entry.path}": Content(self._blob_path(entry.sha256)) for entry in model.files}
        key = layer_key("model", {"folder": folder, "files": [[e.path, e.sha256] for e in model.files]})
        return self._layer(key, f"model: {model.pin.reference}", files, say)

    def _layer(self, key: str, title: str, files: dict[str, Content], say: Callable[[str], None]) -> LayerBlob:
        if known := known_layer(self._layout, key, title):
            return known
        layer = write_layer(self._layout, key, title, files)
        say(f"Layer {title}: {layer.descriptor.size_bytes:,} bytes")
        return layer


def _config(recipe: Recipe, base: Base, platform: Platform, layers: Sequence[LayerBlob]) -> dict[str, Any]:
    inherited = base.config.get("config") or {}
    return {
        "architecture": platform.architecture,
        "os": "linux",
        **({"variant": base.config["variant"]} if base.config.get("variant") else {}),
        "created": CREATED,
        "config": {
            "User": USER,
            "ExposedPorts": {**(inherited.get("ExposedPorts") or {}), f"{PORT}/tcp": {}},
            "Env": _environment(recipe, inherited.get("Env") or []),
            "Entrypoint": [PYTHON, *recipe.plan.entrypoint[1:]],
            "WorkingDir": "/tmp",  # noqa: S108 (the one folder that is writable under a read-only root)
            "Labels": {**(inherited.get("Labels") or {}), **_labels(recipe)},
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in (*base.layers, *layers)]},
        "history": [
            *base_history(base),
            *({"created": CREATED, "created_by": f"argosy {layer.title}"} for layer in layers),
        ],
    }


def _environment(recipe: Recipe, inherited: Sequence[str]) -> list[str]:
    """The base's variables, the user's over them, ours over all."""
    found = dict(item.partition("=")[::2] for item in inherited)
    path = found.get("PATH") or _PATH
    site = f"/{PREFIX}/lib/python{recipe.manifest.recipe.lock.python}/site-packages"
    ours = {
        "ARGOSY_IMAGE": f"/{_IMAGE}",
        "ARGOSY_IMAGE_DIGEST": recipe.plan.digest,
        "PYTHONPATH": f"/{_RUNTIME}",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CONDA_PREFIX" if recipe.manifest.recipe.lock.conda else "VIRTUAL_ENV": f"/{PREFIX}",
    }
    search = {"PATH": f"/{PREFIX}/bin:{site}/bin:{path}"}
    merged = {**found, **search, **recipe.manifest.recipe.environment, **ours}
    return [f"{name}={value}" for name, value in sorted(merged.items())]


def _labels(recipe: Recipe) -> dict[str, str]:
    """What an image says of itself. No name of a manifest: equal content under another name is the same image."""
    own = {name: value for name, value in recipe.plan.labels.items() if name != "io.argosy.manifest"}
    schema = recipe.manifest.recipe.schema
    return {
        **own,
        "io.argosy.image.digest": recipe.plan.digest,
        **({"io.argosy.schema": canonical(schema).decode()} if schema is not None else {}),
    }


def base_history(base: Base) -> list[dict[str, Any]]:
    """The base's own, if it fits its layers."""
    history = [entry for entry in base.config.get("history") or [] if isinstance(entry, dict)]
    if len([entry for entry in history if not entry.get("empty_layer")]) == len(base.layers):
        return history
    return [{"created": CREATED, "created_by": "base"} for _ in base.layers]
