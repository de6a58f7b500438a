"""The package indexes of these tests."""

from manifests.package_index import index, real_index

__all__ = ["index", "real_index"]
