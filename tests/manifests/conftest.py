"""The package indexes and conda channels of these tests."""

from manifests.conda_channel import channel, conda_python
from manifests.package_index import index, real_index

__all__ = ["channel", "conda_python", "index", "real_index"]
