"""Images of manifests as OCI: base, plan, layers, index, row, in that order, so that nothing is half registered."""

from collections.abc import Callable, Sequence

from argosy.errors import InvalidOption
from argosy.images.oci.base import Bases, Pull
from argosy.images.oci.build import OciBuilder, Recipe
from argosy.images.oci.layout import OciLayout
from argosy.images.oci.platforms import parse_platforms
from argosy.images.plan import plan
from argosy.images.registry import ImageRegistry, manifest_contents
from argosy.images.runtimes import runtime_digest
from argosy.images.unpack import BlobPath
from argosy.images.venvs import environment_key
from argosy.manifests.dependencies import Dependencies
from argosy.manifests.lock import index_for
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
        pull: Pull | None = None,
    ) -> None:
        self.layout = layout
        self._settings = settings
        self._database = database
        self._images = images
        self._version = version
        self._bases = Bases(layout, pull)
        self._builder = OciBuilder(layout, blob_path)

    def create(
        self,
        name: str,
        manifest: Manifest,
        description: str,
        base: str,
        platforms: Sequence[str],
        say: Callable[[str], None],
        base_digest: str = "",
    ) -> Image:
        """The image of a manifest on the base that `base` names now; the same two give the same digests.

        With `base_digest` the base is the one of that digest, which is here already.
        """
        check_name("image", name)
        wanted = parse_platforms(platforms)
        say(f"Base {base}")
        base_digest = base_digest or self._bases.resolve(base, wanted)
        python = manifest.recipe.lock.python
        bases = [self._bases.open(base, base_digest, platform, python) for platform in wanted]
        models = manifest_contents(self._database, manifest)
        key = environment_key(manifest.recipe.lock, manifest.recipe.runtime.removeprefix("python:"))
        made = plan(manifest, models, key, runtime_digest(), self._version, base_digest)
        named = Dependencies(
            index_url=manifest.recipe.index_url, extra_index_urls=tuple(manifest.recipe.extra_index_urls)
        )
        recipe = Recipe(
            manifest, models, made, index_for(named, self._settings.index_url, self._settings.extra_index_url)
        )
        built = [self._builder.build(recipe, each, platform, say) for each, platform in zip(bases, wanted, strict=True)]
        image = self._images.create(name, manifest, made, description)
        image = self._images.set_oci(image, {each.platform: each.digest for each in built})
        for each in built:
            say(f"{each.platform}: {each.digest}")
        here = {p: d for p, d in image.oci.items() if self.layout.has(d)}
        self._builder.publish(image.reference, [self.layout.descriptor(d, p) for p, d in here.items()])
        return image

    def contents(self, image: Image) -> list[OciImage]:
        """What the image is made of on each platform that it was built for."""
        here = [(platform, digest) for platform, digest in sorted(image.oci.items()) if self.layout.has(digest)]
        return [self._content(platform, digest) for platform, digest in here]

    def chosen(self, image: Image, platform: str | None) -> tuple[str, str]:
        """(platform, digest) of the manifest that is meant; a platform must be named when there are several."""
        if not image.oci:
            raise InvalidOption(
                "the image", image.reference, "it was not built as OCI. Build it with --builder oci --base BASE"
            )
        if platform is None and len(image.oci) == 1:
            return next(iter(image.oci.items()))
        if platform not in image.oci:
            raise InvalidOption("--platform", platform, f"{image.reference} was built for {', '.join(image.oci)}")
        return platform, image.oci[platform]

    def forget(self, reference: Reference) -> None:
        """Take the tag away; blobs that no other image needs are left to garbage collection."""
        self.layout.untag(str(reference))

    def _content(self, platform: str, digest: str) -> OciImage:
        manifest = self.layout.json(digest)
        layers = [
            OciLayer(
                str(layer["digest"]),
                int(layer["size"]),
                str((layer.get("annotations") or {}).get("io.argosy.layer", "base")),
            )
            for layer in manifest["layers"]
        ]
        base = str((manifest.get("annotations") or {}).get("org.opencontainers.image.base.digest", ""))
        return OciImage(platform, digest, base, layers)
