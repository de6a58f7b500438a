"""Bodies in the forms of other servers: Azure ML, MLflow and TensorFlow."""

from collections.abc import Callable
from typing import Any

from argosy_serving.schema import parse_schema

FRAME = {
    "input": {
        "rows": {
            "type": "pandas",
            "columns": [{"name": "a", "dtype": "int64"}, {"name": "b", "dtype": "float64"}],
            "example": [{"a": 1, "b": 2.0}],
        }
    }
}
SPLIT = {"columns": ["b", "a"], "index": [7, 8], "data": [[0.5, 1], [1.5, 2]]}
RECORDS = [{"a": 1, "b": 0.5}, {"a": 2, "b": 1.5}]


def test_frames_in_the_bodies_of_other_servers(replica: Any) -> None:
    replica.write_image("def run(rows): return rows", FRAME)
    replica.start()
    for body in (
        {"rows": RECORDS},
        {"rows": {"a": {"0": 1, "1": 2}, "b": {"1": 1.5, "0": 0.5}}},
        {"rows": SPLIT},
        {"input_data": SPLIT},
        {"input_data": {"columns": ["a", "b"], "data": [[1, 0.5], [2, 1.5]]}},
        {"dataframe_split": SPLIT},
        {"dataframe_records": RECORDS},
        {"inputs": RECORDS},
        {"instances": RECORDS},
        {"inputs": {"a": [1, 2], "b": [0.5, 1.5]}},
        {"inputs": {"rows": RECORDS}},
        {"inputs": [[1, 0.5], [2, 1.5]]},
        {"input_data": {"data": [[1, 0.5], [2, 1.5]]}},
    ):
        reply = replica.score(body)
        assert (reply.status, reply.status == 200 and reply.json) == (200, RECORDS), body
    for other in (
        {"data": RECORDS},
        {"data": SPLIT},
        {"input_data": SPLIT},
        {"dataframe_split": SPLIT},
        {"dataframe_records": RECORDS},
        {"inputs": {"data": RECORDS}},
        {"input_data": {"data": [[1, 0.5], [2, 1.5]]}},
    ):
        decoded = parse_schema({"input": {"data": FRAME["input"]["rows"]}}).decode(other)["data"]
        assert decoded.to_dict("records") == RECORDS, f"an input that is itself called data: {other}"
    for wrong, pointer in (
        ({"dataframe_records": [{"a": 1}]}, "/dataframe_records/0/b"),
        ({"dataframe_split": {**SPLIT, "data": [[0.5, 1], [1.5, 2.5]]}}, "/dataframe_split/data/1/1"),
        ({"inputs": [[1, 0.5], [2.5, 1.5]]}, "/inputs/1/0"),
        ({"inputs": {"rows": [{"a": 1}]}}, "/inputs/rows/0/b"),
        ({"inputs": RECORDS, "instances": RECORDS}, "/rows"),
        ({"dataframe_records": RECORDS, "params": {}}, "/params"),
        ({"rows": RECORDS, "inputs": RECORDS}, "/inputs"),
        ({"Inputs": RECORDS}, "/rows"),
        ({"inputs": 5}, "/inputs"),
        ({"inputs": None}, "/inputs"),
    ):
        reply = replica.score(wrong)
        assert (reply.status, reply.error["details"]["pointer"]) == (400, pointer), wrong


def test_arrays_and_several_inputs_in_envelopes(make_replica: Callable[[], Any]) -> None:
    one = make_replica()
    one.write_image("def run(x): return x", {"input": {"x": {"type": "numpy", "dtype": "float32", "shape": [None, 2]}}})
    one.start()
    for body in (
        {"instances": [[1, 2]]},
        {"inputs": [[1, 2]]},
        {"input_data": {"columns": [0, 1], "index": [0], "data": [[1, 2]]}},
        {"input_data": [[1, 2]]},
        {"inputs": {"x": [[1, 2]]}},
    ):
        assert one.score(body).json == [[1.0, 2.0]], body
    assert one.score({"input_data": {"data": [[1]]}}).error["details"]["pointer"] == "/input_data/data/0"
    assert one.score({"dataframe_records": [{"a": 1}]}).status == 400
    plain = {"type": "standard", "swagger": {"type": "number"}}
    several = make_replica()
    several.write_image("def run(a, inputs): return [a, inputs]", {"input": {"a": plain, "inputs": plain}})
    several.start()
    assert several.score({"input_data": {"a": 1, "inputs": 2}}).json == [1, 2]
    assert several.score({"a": 1, "inputs": 2}).json == [1, 2], "a name of the schema is never an envelope"
    assert several.score({"inputs": 2, "instances": 3}).json == [3, 2]
    assert several.score({"inputs": 2}).error["details"]["pointer"] == "/a"
