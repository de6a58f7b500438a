"""Base images: fetched into the layout, verified by digest, checked for the wanted platform and Python.

`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` and `docker-archive:FILE` are read here; any other reference is a registry's,
which the `Pull` that the builder is given fetches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from argosy.errors import Error, InvalidFile, InvalidOption, TooLarge
from argosy.images.oci.layers import BASE, TITLE, LayerBlob
from argosy.images.oci.layout import BASE_DIGEST, BASE_NAME, STEPS, TAR, Descriptor, Malformed, OciLayout, media_type
from argosy.images.oci.platforms import Platform, platform_of_machine
from argosy.images.oci.pythons import Findings, look_into
from argosy.images.oci.sources import Source, open_source

_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OPTION = "--base"
LOCAL_KINDS = ("oci:", "oci-archive:", "docker-archive:")
BASE_TAG = "base/"
# Of an image's config.
_KINDS = {"config": dict, "rootfs": dict, "history": list}
_INNER_KINDS = {"Env": list, "Labels": dict, "ExposedPorts": dict}
# Fetches the manifests of these platforms, and all they need, at most so many bytes, into the layout; the digest of
# what the reference names.
Pull = Callable[[str, Sequence[str], OciLayout, int], str]


@dataclass(frozen=True)
class Base:
    """A base for one platform. `digest` is that platform's manifest, also when steps made it out of another base.

    `python` is a path in the image, empty when none is needed.
    """

    reference: str
    digest: str
    layers: list[LayerBlob]
    config: dict[str, Any]
    python: str = ""
    # What the manifest of an image on it says besides: where it came from, when steps made it.
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The digest of what the steps ran on, its own when there were none."""
        return self.annotations.get(BASE_DIGEST, self.digest)

    @property
    def steps(self) -> str:
        """Empty when there were none."""
        return self.annotations.get(STEPS, "")


class Bases:
    """Fetches and checks bases of at most `limit_bytes`, packed and unpacked. Without `pull` there are no
    registries."""

    def __init__(self, layout: OciLayout, limit_bytes: int, pull: Pull | None = None) -> None:
        self._layout = layout
        self._limit_bytes = limit_bytes
        self._pull = pull

    def resolve(self, reference: str, platforms: Sequence[Platform]) -> str:
        """The digest that `reference` names now, an index's where it is one; with all that `platforms` need here."""
        if not reference.startswith(LOCAL_KINDS):
            if self._pull is None:
                raise InvalidOption(_OPTION, reference, "write oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE")
            return self._pull(reference, [platform.name for platform in platforms], self._layout, self._limit_bytes)
        with open_source(reference, self._limit_bytes) as source:
            top = source.top()
            self._fetch_json(source, top.digest)
            for platform in platforms:
                self._fetch(source, self._choose(reference, top.digest, platform, source))
        return top.digest

    def default(self, reference: str, platforms: Sequence[Platform]) -> str:
        """As `resolve`, for the base of those who name none: asked for once, then what was found is used for good."""
        tag = default_tag(reference)
        self._layout.leases.use(tag)
        known = self._layout.tags().get(tag)
        if known is not None and all(self._is_here(known.digest, platform) for platform in platforms):
            return known.digest
        pinned = known is not None and not reference.startswith(LOCAL_KINDS)
        try:
            found = self.resolve(f"{reference}@{known.digest}" if known and pinned else reference, platforms)
        except Error as problem:
            problem.message = (
                f"The default base {reference} cannot be had: {problem.message} Or choose another base: with --base "
                "(an image of a registry that this machine reaches, or oci:DIR of one that was copied here), or for "
                "good with the setting base_image."
            )
            raise
        self.keep(reference, found)
        return found

    def keep(self, reference: str, digest: str) -> None:
        """Let this be what the default base `reference` means from now on."""
        content = self._layout.json(digest)
        self._layout.tag(default_tag(reference), Descriptor(media_type(content), digest, self._layout.size(digest)))

    def _is_here(self, digest: str, platform: Platform) -> bool:
        """Whether nothing must be fetched for that platform; then none of it goes away while a lease is held."""
        try:
            if not self._layout.has(digest):
                return False
            chosen = self._choose(digest, digest, platform, None)
            manifest = self._layout.json(chosen)
            wanted = [Descriptor.of(item) for item in (manifest["config"], *manifest["layers"])]
        except (Error, Malformed, KeyError, TypeError):
            return False
        return self._layout.has(chosen) and all(self._layout.is_whole(each) for each in wanted)

    def open(self, reference: str, digest: str, platform: Platform, python: str) -> Base:
        """The base of one platform from what `resolve` answered. `python` is X.Y, empty when none is needed.

        Raises InvalidOption, InvalidFile.
        """
        base = self.parts(reference, digest, platform)
        findings = self._findings(base.digest, base.layers)
        return replace(base, python=_python_path(reference, findings, platform, python))

    def parts(self, reference: str, digest: str, platform: Platform) -> Base:
        """The same without looking for a Python in it."""
        chosen = self._choose(reference, digest, platform, None)
        manifest = self._layout.json(chosen)
        config = self._layout.json(str(manifest["config"]["digest"]))
        _check_shape(reference, config)
        layers = _layers(reference, manifest, config)
        _check_platform(reference, config, platform)
        return Base(reference, chosen, layers, config, annotations=_annotations(manifest))

    def _findings(self, digest: str, layers: list[LayerBlob]) -> Findings:
        key = f"base-{digest.removeprefix('sha256:')}"
        if known := self._layout.recall(key):
            return Findings.of(known)
        found = look_into(self._layout, layers, self._limit_bytes)
        self._layout.remember(key, found.json())
        return found

    def _choose(self, reference: str, digest: str, platform: Platform, source: Source | None) -> str:
        """The manifest of a platform: `digest` itself, or what the index of that digest names."""
        content = self._layout.json(digest)
        if "manifests" not in content:
            return digest
        if not isinstance(content["manifests"], list):
            raise InvalidFile(reference, f"its index {digest} cannot be used: it lists no manifests")
        offered = []
        for item in content["manifests"]:
            descriptor = _descriptor(reference, item)
            if descriptor.platform == platform.name or descriptor.platform.startswith(f"{platform.name}/"):
                if source is not None:
                    self._fetch_json(source, descriptor.digest)
                return self._choose(reference, descriptor.digest, platform, source)
            offered.append(descriptor.platform or "none named")
        raise InvalidOption(
            _OPTION,
            reference,
            f"it has no image for {platform.name} (it has: {', '.join(offered) or 'nothing'}). Choose another base, or "
            "other platforms with --platform.",
        )

    def _fetch(self, source: Source, digest: str) -> None:
        """Config and layers of a manifest that is here already."""
        manifest = self._layout.json(digest)
        if "config" not in manifest or not isinstance(manifest.get("layers"), list):
            raise InvalidFile(source.reference, f"{digest} is no image manifest")
        blobs = [_descriptor(source.reference, item) for item in (manifest["config"], *manifest["layers"])]
        if sum(blob.size_bytes for blob in blobs) > self._limit_bytes:
            raise TooLarge(f"The base {source.reference}", self._limit_bytes)
        for wanted in blobs:
            if not self._layout.is_whole(wanted):
                self._layout.add(source.read(wanted.digest), wanted.digest)

    def _fetch_json(self, source: Source, digest: str) -> None:
        if not self._layout.has(digest):
            self._layout.add(source.read(digest), digest)


def default_tag(reference: str) -> str:
    """The name in the layout of the default base `reference`."""
    return BASE_TAG + reference


def _descriptor(reference: str, item: Any) -> Descriptor:
    try:
        return Descriptor.of(item)
    except Malformed as problem:
        raise InvalidFile(reference, f"cannot be used: {problem}") from None


def _layers(reference: str, manifest: dict[str, Any], config: dict[str, Any]) -> list[LayerBlob]:
    found = [_descriptor(reference, item) for item in manifest["layers"]]
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(found) != len(diff_ids):
        raise InvalidFile(reference, f"has {len(found)} layers, and its config speaks of {len(diff_ids)}")
    return [
        LayerBlob(
            Descriptor(_oci_name(layer.media_type), layer.digest, layer.size_bytes),
            diff_id,
            layer.annotations.get(TITLE, BASE),
        )
        for layer, diff_id in zip(found, diff_ids, strict=True)
    ]


def _check_shape(reference: str, config: dict[str, Any]) -> None:
    """Somebody else wrote it: what is read of it must be of the right kind."""
    settings = config.get("config")
    inner = settings if isinstance(settings, dict) else {}
    for said, kinds in ((config, _KINDS), (inner, _INNER_KINDS)):
        for key, kind in kinds.items():
            if said.get(key) is not None and not isinstance(said[key], kind):
                raise InvalidFile(reference, f"cannot be used: {key} in its config is no {kind.__name__}")


def _oci_name(layer_type: str) -> str:
    """Docker's names for the same things; ours are the same bytes."""
    return {_DOCKER_LAYER: f"{TAR}+gzip", "application/vnd.docker.image.rootfs.diff.tar": TAR}.get(
        layer_type, layer_type
    )


def _annotations(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Those that go along with steps."""
    found = manifest.get("annotations")
    if not isinstance(found, dict) or STEPS not in found:
        return {}
    return {key: str(found[key]) for key in (BASE_DIGEST, BASE_NAME, STEPS) if key in found}


def _check_platform(reference: str, config: dict[str, Any], platform: Platform) -> None:
    found = f"{config.get('os')}/{config.get('architecture')}"
    if found != platform.name:
        raise InvalidOption(
            _OPTION, reference, f"it is an image for {found}, and {platform.name} is wanted. Choose a base for that."
        )


def _python_path(reference: str, findings: Findings, platform: Platform, python: str) -> str:
    if findings.musl:
        raise InvalidOption(
            _OPTION, reference, "it is built on musl (Alpine), and locked wheels need glibc. Choose a base on glibc."
        )
    if not python:
        return ""
    fitting = next((found for found in findings.pythons if found.minor == python), None)
    if fitting is None:
        have = ", ".join(found.path for found in findings.pythons) or "none"
        raise InvalidOption(
            _OPTION,
            reference,
            f"it has no Python {python}, which the lock is for: looked for python{python} in /usr/local/bin and "
            f"/usr/bin, found {have}. Choose a base with Python {python}, or make the manifest for another with "
            "-r python:X.Y.",
        )
    if fitting.machine not in (0, platform.machine):
        raise InvalidOption(
            _OPTION,
            reference,
            f"its {fitting.path} is for {platform_of_machine(fitting.machine)}, and {platform.name} is wanted",
        )
    return fitting.path
