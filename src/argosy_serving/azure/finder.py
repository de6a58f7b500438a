"""Azure ML's modules for scripts that import them where the real packages are absent.

The finder is the last of `sys.meta_path`: it is asked only when nothing else found the module, so an installed package
always wins, module by module. That also holds inside namespace packages: with `azureml-core` installed, `azureml.core`
is the real one and `azureml.contrib.services` still comes from here. It is installed by the replica, before the script
is loaded, and never by an import of `argosy_serving`: other programs must see the environment as it is.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_GENERATE = "argosy_serving.schema.generate"
_COLLECTOR = "argosy_serving.azure.collector"
_DECORATORS = "argosy_serving.azure.decorators"
_PARAMETERS = "argosy_serving.azure.parameter_types"
_REQUEST = ("argosy_serving.azure.raw_http", ("AMLRequest", "rawhttp"))
_RESPONSE = ("argosy_serving.azure.raw_http", ("AMLResponse",))

# Module -> where its names are, and which.
MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "azureml.api.schema.dataTypes": (_GENERATE, ("DataTypes",)),
    "azureml.api.schema.sampleDefinition": (_GENERATE, ("SampleDefinition",)),
    "azureml.api.realtime.services": (_GENERATE, ("generate_schema",)),
    "azureml.datacollector": (_COLLECTOR, ("ModelDataCollector",)),
    "azureml.datacollector.modeldatacollector": (_COLLECTOR, ("ModelDataCollector",)),
    "azureml.core": ("argosy_serving.azure.models", ("Model",)),
    "azureml.core.model": ("argosy_serving.azure.models", ("Model",)),
    "azureml.contrib.services": ("argosy_serving.azure.raw_http", ("rawhttp",)),
    "azureml.contrib.services.aml_request": _REQUEST,
    "azureml.contrib.services.aml_response": _RESPONSE,
    "azureml_inference_server_http.api.aml_request": _REQUEST,
    "azureml_inference_server_http.api.aml_response": _RESPONSE,
    "inference_schema.schema_decorators": (_DECORATORS, ("input_schema", "output_schema")),
    "inference_schema.schema_util": (
        _DECORATORS,
        ("get_input_schema", "get_output_schema", "is_schema_decorated"),
    ),
    "inference_schema.parameter_types.abstract_parameter_type": (_PARAMETERS, ("AbstractParameterType",)),
    "inference_schema.parameter_types.numpy_parameter_type": (_PARAMETERS, ("NumpyParameterType",)),
    "inference_schema.parameter_types.pandas_parameter_type": (_PARAMETERS, ("PandasParameterType",)),
    "inference_schema.parameter_types.standard_py_parameter_type": (_PARAMETERS, ("StandardPythonParameterType",)),
}
# Parents, which hold nothing of their own: `azureml`, `azureml.api`, ...
PACKAGES = frozenset(
    ".".join(parts[:length]) for parts in (name.split(".") for name in MODULES) for length in range(1, len(parts))
)


class ShimFinder(MetaPathFinder, Loader):
    """Finds and fills the modules above; None for everything else."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None", target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname not in MODULES and fullname not in PACKAGES:
            return None
        return ModuleSpec(fullname, self, origin="argosy_serving", is_package=fullname in PACKAGES)

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = "A stand-in of argosy_serving: the real package is not installed."
        if module.__name__ not in MODULES:
            return
        source, names = MODULES[module.__name__]
        found = importlib.import_module(source)
        for name in names:
            setattr(module, name, getattr(found, name))


def install() -> None:
    """Once per process."""
    if not any(isinstance(finder, ShimFinder) for finder in sys.meta_path):
        sys.meta_path.append(ShimFinder())
