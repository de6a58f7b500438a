"""A database with models, manifests and images in it, made by the real registries."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from argosy.images.plan import plan
from argosy.images.registry import ImageRegistry, manifest_contents
from argosy.manifests.registry import ManifestRegistry
from argosy.models.registry import ModelRegistry
from argosy.models.request import ModelRequest
from argosy.records import FileEntry, Image, Lock, Manifest, Model, ModelPin, Recipe
from argosy.settings import Settings
from argosy.store.blobs import LocalBlobs
from argosy.store.db import Database

SCRIPT = b"def run(numbers): return numbers\n"
LOCK = Lock("3.12", "orjson==3.11.0 --hash=sha256:00\n", {"orjson": "3.11.0"})


@dataclass
class Shelf:
    """Everything lies below `folder`."""

    folder: Path
    database: Database = field(init=False)
    blobs: LocalBlobs = field(init=False)
    models: ModelRegistry = field(init=False)
    manifests: ManifestRegistry = field(init=False)
    images: ImageRegistry = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database.open(self.folder / "argosy.db")
        self.blobs = LocalBlobs(self.folder / "blobs")
        self.models = ModelRegistry(self.database, self.blobs, Settings())
        self.manifests = ManifestRegistry(self.database)
        self.images = ImageRegistry(self.database)

    def close(self) -> None:
        self.blobs.close()
        self.database.close()

    def file(self, path: str, content: bytes) -> FileEntry:
        blob = self.blobs.put([content])
        return FileEntry(path, blob.sha256, blob.size_bytes)

    def model(self, name: str = "iris", content: bytes = b"weights") -> Model:
        return self.models.register(ModelRequest(name, "file", [self.file("model.pkl", content)]))

    def recipe(self, model: Model) -> Recipe:
        return Recipe(
            models=[ModelPin(model.name, model.version, model.digest)],
            runtime="python:3.12",
            script="score.py",
            files=[self.file("score.py", SCRIPT)],
            lock=LOCK,
        )

    def manifest(self, name: str = "iris", content: bytes = b"weights", **changes: object) -> Manifest:
        recipe = replace(self.recipe(self.model(content=content)), **changes)  # type: ignore[arg-type]
        return self.manifests.create(name, recipe)

    def image(self, name: str = "iris", content: bytes = b"weights") -> Image:
        """A new version: every manifest has a model of its own."""
        manifest = self.manifest(name, content)
        made = plan(manifest, manifest_contents(self.database, manifest), "e" * 64, "r" * 64, "0.1.0")
        return self.images.create(name, manifest, made)
