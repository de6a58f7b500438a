"""A home that images leave and reach: to and from registries, and out of archives."""

from pathlib import Path

from argosy.images.distribution.logins import Logins
from argosy.images.distribution.names import ImageName
from argosy.images.distribution.patience import Patience
from argosy.images.distribution.registries import Registries
from argosy.images.oci.tree import reachable
from argosy.images.transfers import Transfers
from argosy.keys import Vault, new_key
from argosy.records import Image
from argosy.settings import Settings
from images.oci.house import House

LIMIT_BYTES = 50_000_000


class Port:
    """A house with transfers."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.layout = house.layout
        registries = Registries(
            Logins(house.shelf.folder / "logins", Vault(new_key())), "", Patience(2, sleep=lambda seconds: None)
        )
        settings = Settings(image_limit_bytes=LIMIT_BYTES)
        self.transfers = Transfers(settings, house.shelf.images, house.images, registries)

    def push(self, image: Image, *names: str) -> str:
        return self.transfers.push(image, [ImageName.parse(name) for name in names], lambda done, total: None).digest

    def pull(self, reference: str, name: str | None = None, platforms: list[str] | None = None) -> Image:
        return self.transfers.pull(reference, name, platforms or [], lambda done, total: None)

    def load(self, path: Path, name: str | None = None, tag: str = "") -> Image:
        return self.transfers.load(path, name, tag, path.name, lambda done, total: None)

    def is_empty(self) -> bool:
        return not self.layout.tags() and not self.house.shelf.images.page(10, None).items

    def check(self, image: Image) -> None:
        for digest in reachable(self.layout, self.layout.tags()[image.reference].digest):
            self.layout.verify(digest)
