"""Records: names, references, digests, and JSON there and back."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.errors import InvalidName, InvalidReference
from argosy.records import (
    FileEntry,
    Image,
    Inspection,
    Layer,
    Lock,
    Model,
    ModelPin,
    Operation,
    Recipe,
    Reference,
    Service,
    ServiceSettings,
    check_name,
    decode,
    digest,
    encode,
    utc_now,
)


@pytest.mark.parametrize("name", ["a", "0", "iris", "iris-2.1", "a" * 63, "a..b"])
def test_good_names(name: str) -> None:
    assert check_name("model", name) == name


@pytest.mark.parametrize(
    "name",
    ["", "Iris", "-a", "a-", ".", "..", "a/b", "../a", "a b", "a\n", "ä", "a" * 64, "a_b", "a:1", "\ud800", "a\0"],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidName, match="model"):
        check_name("model", name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iris", Reference("iris")),
        ("iris:1", Reference("iris", version=1)),
        ("iris:007", Reference("iris", version=7)),
        ("iris@production", Reference("iris", alias="production")),
        ("iris@latest", Reference("iris", alias="latest")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert Reference.parse("model", text) == expected


@pytest.mark.parametrize(
    "text",
    ["iris:", "iris:0", "iris:-1", "iris:x", "iris:1.0", "iris:١", "iris:1:2", "iris@", "iris@A", "iris@a@b"]
    + ["iris:" + "9" * digits for digits in (19, 100, 5000)]
    + ["iris:1\n"],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse("model", text)


@given(st.text())
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        parsed = Reference.parse("model", text)
    except (InvalidName, InvalidReference):
        return
    assert Reference.parse("model", str(parsed)) == parsed
    assert parsed.version is None or parsed.version < 2**63


MODEL = Model(
    "iris",
    1,
    "d" * 64,
    "file",
    [FileEntry("model.pkl", "a" * 64, 3)],
    3,
    utc_now(),
    tags={"a": "b"},
    metrics={"accuracy": 0.5},
    inspection=Inspection("pickle", findings=["calls os.system"]),
)
RECIPE = Recipe([ModelPin("iris", 1, "d")], "python:3.12", "score.py", [], Lock("3.12", "x"), schema={"input": {}})
IMAGE = Image(
    "iris", 1, "d", "iris:1", "m", [], [Layer("base", "k", "t")], "e", "0.1.0", ["python"], {"a": "b"}, utc_now()
)
OPERATION = Operation("1", "service.create", "service/iris", "failed", "deploy", "a", "b", error={"code": "x"})


@pytest.mark.parametrize("record", [MODEL, RECIPE, IMAGE, OPERATION], ids=lambda r: type(r).__name__)
def test_there_and_back(record: Any) -> None:
    assert decode(type(record), encode(record)) == record


def test_a_newer_server_may_say_more() -> None:
    later = encode(MODEL) | {"colour": "red"}
    later["inspection"]["taste"] = "sweet"
    assert decode(Model, later) == MODEL


def test_nested_records_are_decoded_where_they_may_be_missing() -> None:
    hints = {f.name for f in dataclasses.fields(Service)}
    data: dict[str, Any] = dict.fromkeys(hints, "") | {"revision": None, "settings": {"cpu": 1.5}, "replicas": []}
    service = decode(Service, data)
    assert (service.revision, service.settings) == (None, ServiceSettings(cpu=1.5))


def test_a_digest_covers_content_and_not_its_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(MODEL) == digest(encode(MODEL))
    # SHA-256 of the two bytes `{}`.
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_what_json_cannot_say_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": float("nan")})
