"""What an image says of itself: its labels and its `image.json`, read from the layout as a stranger wrote them.

This is all that is known of an image that was not built here. It is what its builder says; the blobs are what their
digests say.
"""

import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from argosy.errors import Error, InvalidFile, InvalidName, InvalidReference
from argosy.images.oci.layers import BASE, TITLE
from argosy.images.oci.layout import DOCKER_LIST, INDEX, Descriptor, Malformed, OciLayout, parse_json
from argosy.images.oci.packages import PREFIX
from argosy.images.oci.pythons import Bounded, Entry, unpacked
from argosy.records import Layer, Lock, ModelPin, Recipe, Reference

_IMAGE_JSON = f"{PREFIX}/image/image.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PYTHON = re.compile(rf"/{PREFIX}/lib/python(\d\.\d+)/")
_LARGEST_JSON_BYTES = 16 << 20
_BUILT = "argosy "


@dataclass(frozen=True)
class Described:
    """`manifests` are the digests by platform; `digest` is the plan's."""

    digest: str
    manifest_digest: str
    manifests: dict[str, str]
    layers: list[Layer]
    recipe: Recipe
    entrypoint: list[str]
    labels: dict[str, str] = field(default_factory=dict)


def describe(layout: OciLayout, what: str, root: str, limit_bytes: int) -> Described:
    """The image of index or manifest `root`, whose blobs are all here. `what` is its name for messages, `limit_bytes`
    bounds what is unpacked in search of `image.json`. Raises InvalidFile for what Argosy has not built."""
    try:
        return _describe(layout, what, root, limit_bytes)
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise InvalidFile(what, f"is no image that can be understood ({problem!r})") from problem


def _describe(layout: OciLayout, what: str, root: str, limit_bytes: int) -> Described:
    found: dict[str, str] = {}
    first: tuple[dict[str, Any], dict[str, Any]] | None = None
    for digest in _manifests(layout, what, root):
        manifest = layout.json(digest)
        config = layout.json(str((manifest.get("config") or {}).get("digest")))
        platform = f"{config.get('os')}/{config.get('architecture')}"
        if "unknown" in platform or manifest.get("artifactType"):
            continue
        if first is not None and _labels(config, what) != _labels(first[1], what):
            raise InvalidFile(what, f"its image for {platform} is another one than that for {next(iter(found))}")
        first = first or (manifest, config)
        found.setdefault(platform, digest)
    if first is None:
        raise InvalidFile(what, "holds no image for any platform")
    return _read(layout, what, first, found, limit_bytes)


def layer_titles(manifest: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """What each layer holds, `base` for those of the base: from annotations, else from the history, which archives of
    Docker keep."""
    layers = manifest["layers"]
    history = [h for h in config.get("history") or [] if isinstance(h, dict) and not h.get("empty_layer")]
    told = (
        [str(entry.get("created_by", "")) for entry in history] if len(history) == len(layers) else [""] * len(layers)
    )
    return [
        str((layer.get("annotations") or {}).get(TITLE) or (text.removeprefix(_BUILT) if _is_ours(text) else BASE))
        for layer, text in zip(layers, told, strict=True)
    ]


def _is_ours(text: str) -> bool:
    kind = text.removeprefix(_BUILT).partition(":")[0]
    return text.startswith(_BUILT) and kind in ("dependencies", "runtime", "code", "model")


def _manifests(layout: OciLayout, what: str, root: str) -> list[str]:
    content = layout.json(root)
    if content.get("mediaType") not in (INDEX, DOCKER_LIST) and "manifests" not in content:
        return [root]
    try:
        return [Descriptor.of(item).digest for item in content["manifests"]]
    except (Malformed, KeyError, TypeError) as problem:
        raise InvalidFile(what, f"its index cannot be used: {problem}") from None


def _labels(config: Mapping[str, Any], what: str) -> dict[str, str]:
    labels = (config.get("config") or {}).get("Labels") or {}
    found = {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}
    for name in ("io.argosy.image.digest", "io.argosy.manifest.digest"):
        if not _SHA256.fullmatch(found.get(name, "")):
            raise InvalidFile(
                what,
                f"was not built by Argosy: it has no label {name}. As the base of an image it may serve: "
                "`argosy image create --builder oci --base ...`",
            )
    return found


def _read(
    layout: OciLayout,
    what: str,
    first: tuple[dict[str, Any], dict[str, Any]],
    manifests: dict[str, str],
    limit_bytes: int,
) -> Described:
    manifest, config = first
    settings, labels = config["config"], _labels(config, what)
    titles = layer_titles(manifest, config)
    layers = []
    for item, title in zip(manifest["layers"], titles, strict=True):
        kind, _, rest = title.partition(": ")
        known = Descriptor.of(item)
        layers.append(Layer(kind, known.digest.removeprefix("sha256:"), rest or title, known.size_bytes))
    said = _image_json(layout, what, manifest["layers"], titles, limit_bytes)
    python = _PYTHON.search(" ".join(map(str, settings.get("Env") or [])))
    version = python[1] if python else ""
    recipe = Recipe(
        models=_pins(what, labels.get("io.argosy.models", "")),
        runtime=f"python:{version}" if version else "",
        script=str(said.get("script", "")),
        files=[],
        lock=Lock(version, ""),
        schema=_of(what, said, "schema", dict, None),
        samples=_samples(what, said),
        environment={str(k): str(v) for k, v in _of(what, said, "environment", dict, {}).items()},
        serving=_of(what, said, "serving", dict, {}),
    )
    return Described(
        labels["io.argosy.image.digest"],
        labels["io.argosy.manifest.digest"],
        manifests,
        layers,
        recipe,
        [str(word) for word in settings.get("Entrypoint") or []],
        {key: value for key, value in labels.items() if key.startswith("io.argosy.")},
    )


def _pins(what: str, text: str) -> list[ModelPin]:
    """Of the label; it tells no digests."""
    pins = []
    for word in filter(None, text.split(",")):
        try:
            reference = Reference.parse("model", word)
        except (InvalidName, InvalidReference) as problem:
            raise InvalidFile(what, f"its label io.argosy.models cannot be used: {problem.message}") from None
        pins.append(ModelPin(reference.name, reference.version or 1, ""))
    return pins


def _of(what: str, said: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = said.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidFile(what, f"its image.json cannot be used: {key} is no {kind.__name__}")
    return value


def _samples(what: str, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    samples = _of(what, said, "samples", list, [])
    if not all(isinstance(sample, dict) and "input" in sample for sample in samples):
        raise InvalidFile(what, "its image.json cannot be used: a sample has no input")
    return list(samples)


def _image_json(
    layout: OciLayout, what: str, layers: Sequence[Any], titles: Sequence[str], limit_bytes: int
) -> dict[str, Any]:
    """From the highest layer that has it. Models and the base are passed over: they may be large, and have none."""
    for item, title in reversed(list(zip(layers, titles, strict=True))):
        if title.startswith("model:") or (title == "base" and any(t.startswith("code:") for t in titles)):
            continue
        found = _member(layout, what, Descriptor.of(item), limit_bytes)
        if found is not None:
            return parse_json(found, f"{what}: {_IMAGE_JSON}")
    raise InvalidFile(what, f"was not built by Argosy: it has no file /{_IMAGE_JSON}")


def _member(layout: OciLayout, what: str, layer: Descriptor, limit_bytes: int) -> bytes | None:
    with layout.open(layer.digest) as raw:
        try:
            stream = cast(BinaryIO, Bounded(unpacked(raw, layer.media_type, layer.digest), what, limit_bytes))
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=Entry) as tar:
                for entry in tar:
                    if entry.name.removeprefix("./").lstrip("/") == _IMAGE_JSON and entry.isreg():
                        if entry.size > _LARGEST_JSON_BYTES:
                            raise InvalidFile(what, f"its image.json has {entry.size:,} bytes, which is too much")
                        content = tar.extractfile(entry)
                        return content.read() if content else None
        except Error:
            raise
        except (tarfile.TarError, EOFError, OSError, ValueError) as problem:
            raise InvalidFile(what, f"its layer {layer.digest} cannot be read as a tar file ({problem})") from problem
    return None
