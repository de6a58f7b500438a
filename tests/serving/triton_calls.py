"""Runs where tritonclient is: calls a service by the inference protocol and prints what came back as JSON.

python triton_calls.py HOST:PORT[/prefix] MODEL KEY
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton


def tensor(name: str, array: Any, datatype: str, binary: bool) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def main(address: str, model: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    client = triton.InferenceServerClient(address)
    said: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready(model),
        "version": client.is_model_ready(model, "3"),
        "other": client.is_model_ready("other"),
        "server": client.get_server_metadata(headers=headers),
        "metadata": client.get_model_metadata(model, headers=headers),
        "answers": [],
    }
    rows, words = np.array([[1, 2], [3, 4]], np.float32), np.array(["a", "é"], dtype=object)
    for binary in (False, True):
        inputs = [
            tensor("rows", rows, "FP32", binary),
            tensor("df.n", np.array([5, 6], np.int64), "INT64", binary),
            tensor("df.word", words, "BYTES", binary),
            tensor("threshold", np.array([0.5]), "FP64", binary),
        ]
        for outputs in (None, [triton.InferRequestedOutput(n, binary_data=binary) for n in ("sum", "words")]):
            for compression in (None, "gzip", "deflate"):
                result = client.infer(
                    model, inputs, outputs=outputs, headers=dict(headers), request_id="r1",
                    request_compression_algorithm=compression,
                )  # fmt: skip
                answer = result.get_response()
                arrays = {each["name"]: result.as_numpy(each["name"]) for each in answer["outputs"]}
                values = {name: array.astype(str).tolist() for name, array in arrays.items() if array.dtype != object}
                texts = {n: [t if isinstance(t, str) else t.decode() for t in a.reshape(-1)]
                         for n, a in arrays.items() if a.dtype == object}  # fmt: skip
                said["answers"].append({"id": answer["id"], "model": answer["model_name"], **values, **texts})
    said["errors"] = []
    bad_calls: tuple[Callable[[], Any], ...] = (
        lambda: client.infer(model, inputs[:1], headers=headers),
        lambda: client.infer(model, inputs),
        lambda: client.infer("other", inputs, headers=headers),
        lambda: client.infer(model, inputs, outputs=[triton.InferRequestedOutput("nope")], headers=headers),
    )
    for bad in bad_calls:
        try:
            bad()
        except triton.InferenceServerException as problem:
            said["errors"].append([problem.status(), problem.message()])
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
