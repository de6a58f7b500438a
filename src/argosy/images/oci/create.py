"""Images of manifests as OCI: base, plan, layers, index, row, in that order, so that nothing is half registered."""

from collections.abc import Callable, Sequence
from pathlib import Path

from argosy.errors import InvalidOption, StorageFailed
from argosy.images.docker.build import DockerBuilder, DockerSteps
from argosy.images.docker.log import BuildLog, forget_log, read_log
from argosy.images.oci.attachments import BILL_TYPE, PROVENANCE_TYPE, attach
from argosy.images.oci.base import Base, Bases, Pull
from argosy.images.oci.build import OciBuilder, Recipe
from argosy.images.oci.described import layer_titles
from argosy.images.oci.layout import BASE_DIGEST, OciLayout
from argosy.images.oci.platforms import Platform, parse_platforms
from argosy.images.oci.provenance import provenance
from argosy.images.plan import plan
from argosy.images.registry import ImageRegistry, manifest_contents
from argosy.images.runtimes import runtime_digest
from argosy.images.unpack import BlobPath
from argosy.images.venvs import environment_key
from argosy.manifests.channels import Channels
from argosy.manifests.dependencies import Dependencies
from argosy.manifests.lock import index_for
from argosy.manifests.uv import Index
from argosy.records import Image, Manifest, OciImage, OciLayer, Reference, check_name
from argosy.settings import Settings
from argosy.store.db import Database


class OciImages:
    """Builds images into the layout, shows and forgets them. `pull` fetches bases from registries, if there is one."""

    def __init__(
        self,
        layout: OciLayout,
        settings: Settings,
        database: Database,
        images: ImageRegistry,
        blob_path: BlobPath,
        version: str,
        logs: Path,
        pull: Pull | None = None,
    ) -> None:
        self.layout = layout
        self._settings = settings
        self._database = database
        self._images = images
        self._version = version
        self._bases = Bases(layout, settings.image_limit_bytes, pull)
        self._builder = OciBuilder(layout, blob_path)
        self._docker = DockerBuilder(layout, blob_path, settings.image_limit_bytes)
        self._logs = logs

    def create(
        self,
        name: str,
        manifest: Manifest,
        description: str,
        base: str | None,
        platforms: Sequence[str],
        say: Callable[[str], None],
        steps: DockerSteps | None = None,
        base_digest: str = "",
    ) -> Image:
        """The image of a manifest on the base that `base` names now, or on the default one; the same two give the same
        digests.

        With `steps` they run on the base before, which gives other digests each time that they really run. With
        `base_digest` the base is the one of that digest, which is here already.
        """
        check_name("image", name)
        wanted = parse_platforms(platforms)
        with self.layout.leases.hold():
            if base is None or not base_digest:
                base, base_digest = self._base(base, manifest.recipe.lock.python, wanted, say)
            if steps is None:
                bases = [self._bases.open(base, base_digest, platform, _python(manifest)) for platform in wanted]
                return self._build(name, manifest, description, base_digest, bases, wanted, say)
            parts = self._bases.parts(base, base_digest, wanted[0])
            with BuildLog(self._logs, name, say) as log:
                derived = self._with_steps(name, manifest, parts, wanted[0], steps, log)
                image = self._build(name, manifest, description, derived.digest, [derived], wanted, say)
                log.keep(image.version)
            return image

    def log(self, name: str, version: int | None) -> str:
        """Of the build of one version, or of the last build under this name, also one that failed."""
        return read_log(self._logs, name, version)

    def _with_steps(
        self, name: str, manifest: Manifest, base: Base, platform: Platform, steps: DockerSteps, log: BuildLog
    ) -> Base:
        index = self._index(manifest)
        derived = self._docker.derive(base, platform, steps, manifest.recipe.files, index, name, log)
        return self._bases.open(base.reference, derived, platform, _python(manifest))

    def _index(self, manifest: Manifest) -> Index:
        named = Dependencies(
            index_url=manifest.recipe.index_url, extra_index_urls=tuple(manifest.recipe.extra_index_urls)
        )
        return index_for(named, self._settings.index_url, self._settings.extra_index_url)

    def _build(
        self,
        name: str,
        manifest: Manifest,
        description: str,
        base_digest: str,
        bases: Sequence[Base],
        wanted: Sequence[Platform],
        say: Callable[[str], None],
    ) -> Image:
        models = manifest_contents(self._database, manifest)
        key = environment_key(manifest.recipe.lock, manifest.recipe.runtime.removeprefix("python:"))
        made = plan(manifest, models, key, runtime_digest(), self._version, base_digest)
        channels = Channels.of(self._settings.conda_channels)
        recipe = Recipe(manifest, models, made, self._index(manifest), channels)
        built = [self._builder.build(recipe, each, platform, say) for each, platform in zip(bases, wanted, strict=True)]
        # Loaded late: only builds need it.
        from argosy.images.oci.bill import bill

        for each, on, platform in zip(built, bases, wanted, strict=True):
            facts = (manifest, models, made, platform, on, each.digest)
            attach(self.layout, each, {BILL_TYPE: bill(*facts), PROVENANCE_TYPE: provenance(*facts)})
            say(f"{each.platform}: {each.digest}")
        image = self._images.create(name, manifest, made, description)
        image = self._images.set_oci(image, {each.platform: each.digest for each in built})
        here = {p: d for p, d in image.oci.items() if self.layout.has(d)}
        self._builder.publish(image.reference, [self.layout.descriptor(d, p) for p, d in here.items()])
        return image

    def _base(
        self, named: str | None, python: str, platforms: Sequence[Platform], say: Callable[[str], None]
    ) -> tuple[str, str]:
        """Reference and digest."""
        default = self._settings.base_image.replace("{python}", python)
        say(f"Base {named or default}")
        if named is None:
            return default, self._bases.default(default, platforms)
        found = self._bases.resolve(named, platforms)
        if named == default:
            self._bases.keep(named, found)
        return named, found

    def root(self, image: Image) -> str:
        """The digest of the index over all platforms of an image. StorageFailed when it is not here any more."""
        if not image.oci:
            raise _not_oci(image)
        tagged = self.layout.tags().get(image.reference)
        if tagged is None or not self.layout.has(tagged.digest):
            raise StorageFailed(f"The image {image.reference} is not in the image store. Build or pull it again.")
        return tagged.digest

    def contents(self, image: Image) -> list[OciImage]:
        """What the image is made of on each platform that it was built for."""
        here = [(platform, digest) for platform, digest in sorted(image.oci.items()) if self.layout.has(digest)]
        return [self._content(platform, digest) for platform, digest in here]

    def chosen(self, image: Image, platform: str | None) -> tuple[str, str]:
        """(platform, digest) of the manifest that is meant; a platform must be named when there are several."""
        if not image.oci:
            raise _not_oci(image)
        if platform is None and len(image.oci) == 1:
            return next(iter(image.oci.items()))
        if platform not in image.oci:
            raise InvalidOption("--platform", platform, f"{image.reference} was built for {', '.join(image.oci)}")
        return platform, image.oci[platform]

    def forget(self, reference: Reference) -> None:
        """Take the tag and the build log away; blobs that no other image needs are left to garbage collection."""
        self.layout.untag(str(reference))
        forget_log(self._logs, reference.name, reference.version)

    def _content(self, platform: str, digest: str) -> OciImage:
        manifest = self.layout.json(digest)
        titles = layer_titles(manifest, self.layout.json(manifest["config"]["digest"]))
        layers = [
            OciLayer(str(layer["digest"]), int(layer["size"]), title)
            for layer, title in zip(manifest["layers"], titles, strict=True)
        ]
        base = str((manifest.get("annotations") or {}).get(BASE_DIGEST, ""))
        return OciImage(platform, digest, base, layers)


def _python(manifest: Manifest) -> str:
    """What the base must have; conda's packages bring their own."""
    return "" if manifest.recipe.lock.conda else manifest.recipe.lock.python


def _not_oci(image: Image) -> InvalidOption:
    return InvalidOption(
        "the image",
        image.reference,
        f"it was not built as OCI: `argosy image create -n {image.name} --manifest {image.manifest} --builder oci`",
    )
