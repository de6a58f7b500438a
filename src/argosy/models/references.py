"""What the names in a pickle mean: the packages it needs, the framework it is of, and what should worry its owner."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence

_VERSION = re.compile(r"\d+(\.\w+){1,5}")

# Import names whose distribution is called otherwise. Names that are equal need no entry here.
_RENAMED = {
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "umap": "umap-learn",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "dateutil": "python-dateutil",
    "category_encoders": "category-encoders",
    "feature_engine": "feature-engine",
    "sentence_transformers": "sentence-transformers",
    "sklearn_pandas": "sklearn-pandas",
}
_SAME = [
    "catboost",
    "cloudpickle",
    "dill",
    "fasttext",
    "gensim",
    "hdbscan",
    "joblib",
    "keras",
    "lightgbm",
    "mlxtend",
    "networkx",
    "ngboost",
    "nltk",
    "numba",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pmdarima",
    "polars",
    "prophet",
    "pyarrow",
    "pytz",
    "scipy",
    "shap",
    "skops",
    "sktime",
    "spacy",
    "statsmodels",
    "tensorflow",
    "torch",
    "torchvision",
    "transformers",
    "tsfresh",
    "xgboost",
]
DISTRIBUTIONS: Mapping[str, str] = {**{name: name for name in _SAME}, **_RENAMED}

# Packages that give a model its shape; the first one that a pickle names is its framework.
_FRAMEWORKS = [
    "sklearn",
    "imblearn",
    "xgboost",
    "lightgbm",
    "catboost",
    "torch",
    "tensorflow",
    "keras",
    "statsmodels",
    "prophet",
    "spacy",
    "transformers",
    "sktime",
    "pmdarima",
    "ngboost",
    "hdbscan",
    "umap",
    "gensim",
]

_RUNS = "which can run any command or code while the model is loaded"
_DANGEROUS_MODULES = dict.fromkeys(
    [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "pty",
        "code",
        "codeop",
        "commands",
        "runpy",
        "importlib",
        "imp",
        "ctypes",
        "_ctypes",
        "marshal",
        "pdb",
        "bdb",
        "timeit",
        "multiprocessing",
        "asyncio",
        "pip",
        "venv",
        "platform",
    ],
    _RUNS,
)
_DANGEROUS_MODULES |= dict.fromkeys(
    [
        "socket",
        "ssl",
        "http",
        "httplib",
        "urllib",
        "urllib2",
        "urllib3",
        "requests",
        "httpx",
        "aiohttp",
        "ftplib",
        "smtplib",
        "telnetlib",
        "webbrowser",
    ],
    "which can reach the network while the model is loaded",
)
_DANGEROUS_MODULES |= dict.fromkeys(
    ["shutil", "tempfile", "pathlib", "io", "_io", "glob"], "which can reach files while the model is loaded"
)
_BUILTINS = ("builtins", "__builtin__", "__builtins__")
_DANGEROUS_NAMES = {
    **{
        f"{module}.{name}": _RUNS
        for module in _BUILTINS
        for name in [
            "eval",
            "exec",
            "execfile",
            "compile",
            "open",
            "input",
            "breakpoint",
            "__import__",
            "getattr",
            "setattr",
            "delattr",
            "apply",
            "globals",
        ]
    },
    "pickle.loads": _RUNS,
    "_pickle.loads": _RUNS,
    "operator.attrgetter": _RUNS,
    "operator.methodcaller": _RUNS,
    "types.FunctionType": _RUNS,
    "types.CodeType": _RUNS,
    "torch.hub.load": _RUNS,
    "numpy.testing._private.utils.runstring": _RUNS,
    "pydoc.pipepager": _RUNS,
    "<computed>": "that it computes while it is loaded, which hides what it does",
}
# Harmless members of the modules above that real models do use.
_HARMLESS = {"pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.Path", "io.BytesIO", "_io.BytesIO", "io.StringIO"}


def distributions(names: Iterable[str]) -> list[str]:
    """Packages that the names come from, by the import names we know, sorted."""
    return sorted({DISTRIBUTIONS[top] for top in map(_top, names) if top in DISTRIBUTIONS})


def framework(names: Iterable[str]) -> str | None:
    """The distribution of the first name that belongs to a framework: the outermost object comes first."""
    return next((DISTRIBUTIONS[top] for top in map(_top, names) if top in _FRAMEWORKS), None)


def findings(names: Sequence[str]) -> list[str]:
    """Sentences about names that are dangerous, or that loading will not find."""
    found = [f"refers to {name}, {danger}" for name in names if (danger := _danger(name))]
    if found:
        found.append("do not load it unless you trust where it came from")
    own = [name for name in names if _top(name) == "__main__"]
    if own:
        found.append(
            f"refers to {', '.join(own[:5])}: defined in the script or notebook that saved it. "
            "Define the same names in a module that the scoring script imports, and save it again"
        )
    strange = sorted({top for name in names if (top := _top(name)) and _is_strange(top)})
    if strange:
        found.append(f"needs the modules {', '.join(strange[:10])}: add their files or packages to the manifest")
    if any(_top(name) in ("cloudpickle", "dill") for name in names):
        found.append("holds pickled functions (cloudpickle): it loads only with the Python version that saved it")
    return found


def pinned(requirements: Sequence[str], distribution: str | None, version: str | None) -> list[str]:
    """The requirements with `distribution` at its version."""
    if not distribution:
        return list(requirements)
    pin = f"{distribution}=={version}" if is_version(version) else distribution
    return sorted({*(requirement for requirement in requirements if requirement != distribution), pin})


def is_version(text: str | None) -> bool:
    return bool(text and len(text) < 40 and _VERSION.fullmatch(text))


def _top(name: str) -> str:
    return name.partition(".")[0]


def _danger(name: str) -> str | None:
    if name in _HARMLESS:
        return None
    return _DANGEROUS_NAMES.get(name) or _DANGEROUS_MODULES.get(_top(name))


def _is_strange(top: str) -> bool:
    known = top in DISTRIBUTIONS or top in sys.stdlib_module_names or top in _BUILTINS
    return not known and top not in ("__main__", "copy_reg", "<computed>") and top not in _DANGEROUS_MODULES
