"""Packages that a dependency file of Azure ML lists and no lock contains, since every replica does what they did.

They are servers, or parts of one: in a replica their code would never run, and what they pin (Flask, pydantic, wrapt,
OpenTelemetry) collides with models' own pins, or has no wheel for a Python of today.
"""

from dataclasses import replace

from packaging.requirements import Requirement as IndexRequirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from argosy.manifests.dependencies import Dependencies, Requirement

# Normalised name -> what a replica has instead.
_IN_EVERY_REPLICA = {
    "azureml-inference-server-http": "the replica is the server, and has AMLRequest, AMLResponse and rawhttp",
    "azureml-defaults": "it installs a server, which the replica is; a script that imports more of azureml.core "
    "than Model.get_model_path must list azureml-core",
    "azureml-contrib-services": "its classes work in Flask only; the replica has AMLRequest, AMLResponse and rawhttp",
    "azureml-datacollector": "its library cannot be loaded on systems of today; the replica has ModelDataCollector",
    "azure-ml-api-sdk": "the replica has DataTypes, SampleDefinition and generate_schema",
}
# Earlier versions need a wrapt for which there are no wheels.
_FIRST_SCHEMA_VERSION = Version("1.6")
_LATER_SCHEMA_VERSIONS = ("1.6", "1.7", "1.7.1", "1.7.2", "1.8", "2.0")
_SUPPORT = "-support"  # inference-schema[numpy-support] brings numpy
_EXTRAS = tuple(f"{name}{_SUPPORT}" for name in ("numpy", "pandas"))


def without_provided(dependencies: Dependencies) -> Dependencies:
    """The dependencies without those packages, each with a note that says why it is left out."""
    kept: list[Requirement] = []
    notes: list[str] = []
    for wish in dependencies.requirements:
        why = _IN_EVERY_REPLICA.get(wish.name, "")
        if wish.name == "inference-schema" and _is_too_old(IndexRequirement(wish.text).specifier):
            why = f"versions before {_FIRST_SCHEMA_VERSION} need a wrapt without wheels; the replica has its decorators"
            extras = sorted(IndexRequirement(wish.text).extras)
            kept += [replace(wish, text=e.removesuffix(_SUPPORT)) for e in extras if e in _EXTRAS]
        if why:
            notes.append(f"{wish.place} is left out: {why}.")
        else:
            kept.append(wish)
    return replace(dependencies, requirements=tuple(kept), notes=(*dependencies.notes, *notes))


def _is_too_old(specifiers: SpecifierSet) -> bool:
    """Whether only versions before the first usable one are allowed."""
    for specifier in specifiers:
        if specifier.operator in ("==", "===") and not specifier.version.endswith(".*"):
            try:
                return Version(specifier.version) < _FIRST_SCHEMA_VERSION
            except InvalidVersion:
                return False
    return not any(specifiers.contains(version) for version in _LATER_SCHEMA_VERSIONS)
