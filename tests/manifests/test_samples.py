import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.errors import InvalidFile, InvalidSchema
from argosy.manifests.samples import check_samples, inferred_samples, parse_samples, read_schema

SCHEMA = read_schema(
    {
        "input": {
            "text": {"type": "standard", "swagger": {"type": "string"}, "example": "hello"},
            "count": {"type": "standard", "swagger": {"type": "integer"}},
        }
    }
)


def parse(document: Any) -> list[dict[str, Any]]:
    return parse_samples(json.dumps(document).encode(), "samples.json", SCHEMA)


def test_an_object_is_one_request_body() -> None:
    assert parse({"text": "a", "count": 1}) == [{"input": {"text": "a", "count": 1}}]
    assert parse_samples(b'{"input": 1, "output": 2}', "s.json") == [{"input": {"input": 1, "output": 2}}]


def test_a_list_holds_samples() -> None:
    samples = [
        {"input": {"text": "a", "count": 1}, "output": [1.5], "tolerance": {"relative": 0.1}},
        {"input": {"text": "b", "count": 2}},
        {"input": {"text": "b", "count": 2}, "output": None},
    ]
    assert parse(samples) == samples


def test_a_sample_is_made_from_the_schema() -> None:
    [sample] = inferred_samples(SCHEMA)
    assert sample["input"]["text"] == "hello"
    assert check_samples([sample], "inferred", SCHEMA) == [sample]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1, column 1 is no JSON"),
        (b"{\n 'a': 1}", "line 2, column 2"),
        (b"\xff", "not UTF-8"),
        (b"NaN", "NaN is no JSON"),
        (b'{"a": Infinity}', "Infinity is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1", "must hold one request body"),
        (b"[]", "must hold one request body"),
        (b"[1]", "sample 1 of 1"),
        (b'[{"text": "a"}]', "sample 1 of 1"),
        (b'[{"input": {"text": "a", "count": 1}}, {"output": 1}]', "sample 2 of 2"),
        (b'[{"input": {}, "extra": 1}]', "nothing but"),
        (b'[{"input": {"text": "a", "count": 1}, "tolerance": 1}]', "tolerance"),
        (b'[{"input": {"text": "a", "count": 1}, "tolerance": {"relative": -1}}]', "tolerance"),
        (b'{"text": "a"}', "lacks count"),
        (b'{"text": "a", "count": 1, "more": 1}', "has more"),
        (b'[{"input": [1]}]', "must be an object with text, count"),
        (b'{"text": 1, "count": 1}', "/text"),
        (b"1" * 20_000_001, "not read"),
    ],
)
def test_bad_files(content: bytes, said: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        parse_samples(content, "samples.json", SCHEMA)
    assert caught.value.message.startswith("samples.json: ")
    assert said in caught.value.message


def test_samples_of_a_request_are_checked_too() -> None:
    with pytest.raises(InvalidFile, match="samples are a list"):
        check_samples({"input": 1}, "samples")


def test_a_bad_schema_names_the_place() -> None:
    with pytest.raises(InvalidSchema) as caught:
        read_schema({"input": {"a": {"type": "nonsense"}}})
    assert caught.value.details["pointer"] == "/input/a/type"


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with suppress(InvalidFile):
        parse_samples(content, "samples.json", SCHEMA)


def test_numbers_that_json_cannot_say() -> None:
    with pytest.raises(InvalidFile, match="sample 2 has NaN"):
        check_samples([{"input": {}}, {"input": {"x": [1, float("nan")]}}], "samples")
