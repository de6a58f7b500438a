from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.models.registry import ModelRegistry
from argosy.settings import Settings
from argosy.store.blobs import LocalBlobs
from argosy.store.db import Database


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[LocalBlobs]:
    store = LocalBlobs(tmp_path / "blobs")
    yield store
    store.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "argosy.db")
    yield opened
    opened.close()


@pytest.fixture
def registry(database: Database, blobs: LocalBlobs) -> ModelRegistry:
    return ModelRegistry(database, blobs, Settings(model_limit_bytes=50_000_000))
