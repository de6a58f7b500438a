"""File formats told apart by their first and last bytes, and what each says of its framework.

Every function takes an `Artifact` and answers an Inspection, or None when the file is of another format.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from argosy.models.archives import zip_directory_bytes
from argosy.models.boosters import lightgbm_inputs, xgboost_inputs
from argosy.models.inputs import Inputs, usable
from argosy.models.onnx_graph import graph_inputs
from argosy.models.pickles import Budget, scan
from argosy.models.references import findings, is_version, pinned
from argosy.records import Inspection

_EDGE_BYTES = 64 << 10
_TEXT_BYTES = 4 << 20
_ZIP_DIRECTORY_BYTES = 5_000_000

_XGBOOST_JSON = re.compile(rb'"version"\s*:\s*\[(\d+),(\d+),(\d+)\]')
# UBJSON: an array of three int8, `version[#L<3>i<a>i<b>i<c>`.
_XGBOOST_UBJ = re.compile(rb"version\[#L\x00{7}\x03i(.)i(.)i(.)", re.DOTALL)
_H5_KERAS = re.compile(rb"keras_version.*?(\d+\.\d+\.\d+)", re.DOTALL)
# MetaInfoDef.tensorflow_version is field 5, tensorflow_git_version field 6, both strings (meta_graph.proto).
_TENSORFLOW = re.compile(rb"\x2a[\x05-\x20](\d+\.\d+\.\d+[\w.-]{0,20})\x32")


@dataclass
class Artifact:
    """One file of a model, open, with its first and last 64 KiB."""

    path: str
    stream: BinaryIO
    size_bytes: int
    budget: Budget

    def __post_init__(self) -> None:
        self.head = self.stream.read(_EDGE_BYTES)
        self.stream.seek(max(0, self.size_bytes - _EDGE_BYTES))
        self.tail = self.stream.read(_EDGE_BYTES)
        self.stream.seek(0)


def of_framework(kind: str, distribution: str, version: str | None = None, *notes: str) -> Inspection:
    known = version if is_version(version) else None
    return Inspection(kind, distribution, known, pinned([], distribution, known), list(notes))


def _scriptless(artifact: Artifact, found: Inspection, inputs: Inputs | None) -> Inspection:
    """`found` of a format whose scoring script can be generated."""
    return replace(found, template=found.format, artifact=artifact.path, inputs=usable(inputs))


def xgboost(artifact: Artifact) -> Inspection | None:
    head, edges = artifact.head, artifact.head + artifact.tail
    if head.startswith(b"binf"):
        return of_framework("xgboost", "xgboost")
    if not re.match(rb'\{(L\x00{7}\x07learner|L\x00{7}\x07version|\s*"(learner|version)"\s*:)', head):
        return None
    if b"gradient_booster" not in edges and b"learner" not in edges:
        return None
    version = None
    if found := _XGBOOST_JSON.search(edges):
        version = b".".join(found.groups()).decode()
    elif found := _XGBOOST_UBJ.search(edges):
        version = ".".join(str(part[0]) for part in found.groups())
    inputs = xgboost_inputs(head, artifact.tail)
    return _scriptless(artifact, of_framework("xgboost", "xgboost", version), inputs)


def lightgbm(artifact: Artifact) -> Inspection | None:
    # `version=v4` there is the version of the text format, not of the package.
    if not re.match(rb"tree\r?\nversion=v\d", artifact.head):
        return None
    inputs = lightgbm_inputs(artifact.head, artifact.tail)
    return _scriptless(artifact, of_framework("lightgbm", "lightgbm"), inputs)


def catboost(artifact: Artifact) -> Inspection | None:
    return of_framework("catboost", "catboost") if artifact.head.startswith(b"CBM1") else None


def npy(artifact: Artifact) -> Inspection | None:
    if not artifact.head.startswith(b"\x93NUMPY"):
        return None
    notes = ["holds pickled objects: numpy loads it with allow_pickle only"] if b"'|O'" in artifact.head[:4096] else []
    return of_framework("npy", "numpy", None, *notes)


def hdf5(artifact: Artifact) -> Inspection | None:
    if not artifact.head.startswith(b"\x89HDF\r\n\x1a\n"):
        return None
    if b"keras_version" not in artifact.head:
        return Inspection("hdf5", None, None, ["h5py"])
    found = _H5_KERAS.search(artifact.head)
    return _keras(found[1].decode() if found else None, b'"Lambda"' in artifact.head)


def tensorflow(artifact: Artifact) -> Inspection | None:
    if not re.search(r"(^|/)saved_model\.pb$", artifact.path):
        return None
    found = _TENSORFLOW.search(artifact.stream.read(_TEXT_BYTES))
    return of_framework("tensorflow", "tensorflow", found[1].decode() if found else None)


def onnx(artifact: Artifact) -> Inspection | None:
    """ModelProto: field 1 ir_version, 2 producer_name, 3 producer_version, 7 graph (onnx.proto)."""
    fields = dict(_protobuf(artifact))
    if not 0 < fields.get(1, 0) < 100 or 7 not in fields:
        return None
    inputs = graph_inputs(artifact.stream, artifact.size_bytes, artifact.budget)
    return _scriptless(artifact, of_framework("onnx", "onnxruntime"), inputs)


def safetensors(artifact: Artifact) -> Inspection | None:
    header_bytes = int.from_bytes(artifact.head[:8], "little")
    if (
        not 2 <= header_bytes <= artifact.size_bytes - 8
        or artifact.head[8:9] != b"{"
        or b'"dtype"' not in artifact.head
    ):
        return None
    return of_framework("safetensors", "safetensors")


def zipped(artifact: Artifact) -> Inspection | None:
    """Zip files: PyTorch's, Keras's, numpy's .npz, or any other."""
    if not artifact.head.startswith(b"PK\x03\x04"):
        return None
    # zipfile reads the directory as a whole into objects.
    if zip_directory_bytes(artifact.stream) > _ZIP_DIRECTORY_BYTES:
        return Inspection("zip", findings=["its directory is too large to be read"])
    with zipfile.ZipFile(artifact.stream) as archive:
        names = archive.namelist()
        data = next((name for name in names if re.fullmatch(r"[^/]*/data\.pkl", name)), None)
        if data:
            with _open(archive, data) as stream:
                found = scan(stream, artifact.budget)
            return of_framework("torch", "torch", None, *findings(found.names))
        if "metadata.json" in names and "config.json" in names:
            metadata = json.loads(_text(archive, "metadata.json"))
            return _keras(str(metadata.get("keras_version")), '"Lambda"' in _text(archive, "config.json"))
        if names and all(name.endswith(".npy") for name in names):
            return of_framework("npy", "numpy")
    return Inspection("zip")


FORMATS: tuple[Callable[[Artifact], Inspection | None], ...] = (
    xgboost,
    lightgbm,
    catboost,
    npy,
    hdf5,
    tensorflow,
    zipped,
    safetensors,
    onnx,
)


def _keras(version: str | None, has_lambda: bool) -> Inspection:
    notes = ["Keras needs a backend: add tensorflow, torch or jax to the dependencies"]
    if has_lambda:
        notes.append("has a Lambda layer: it holds code that runs when the model is loaded")
    return of_framework("keras", "keras", version, *notes)


def _open(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    # zipfile inflates bzip2 and lzma without a bound; no framework writes them.
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{name} is not packed with deflate")
    return cast(BinaryIO, archive.open(name))


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with _open(archive, name) as stream:
        return stream.read(_TEXT_BYTES).decode("utf-8", "replace")


def _protobuf(artifact: Artifact) -> Iterator[tuple[int, int]]:
    """Numbers and integer values (lengths, for strings and messages) of the top fields; stops at what is none."""
    stream = artifact.stream
    stream.seek(0)
    for _ in range(64):
        tag = _varint(stream)
        if tag is None or not 0 < tag >> 3 <= 100 or tag & 7 not in (0, 2):
            return
        value = _varint(stream)
        if value is None:
            return
        if tag & 7 == 2:
            if stream.tell() + value > artifact.size_bytes:
                return
            stream.seek(stream.tell() + value)
        yield tag >> 3, value


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 64, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
