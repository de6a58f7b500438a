import json
from typing import Any

import pytest

from argosy.schema.hints import from_script, run_parameters
from argosy.schema.samples import NoSchema, from_csv, from_json
from argosy_serving.schema import parse_schema, sample_from_schema


def test_a_request_body() -> None:
    body = {
        "rows": [{"a": 1, "b": "x", "when": "2024-05-01"}, {"a": 2, "b": None, "when": "2024-05-02T10:00:00Z"}],
        "matrix": [[1.5, 2], [3, 4], [5, 6], [7, 8]],
        "flags": [True, False],
        "text": "hello",
        "limit": 3,
        "options": {"k": [1, "mixed"]},
    }
    schema = from_json(json.dumps(body), "data")
    inputs = schema["input"]
    assert [(c["name"], c["dtype"]) for c in inputs["rows"]["columns"]] == [
        ("a", "int64"),
        ("b", "str"),
        ("when", "datetime64[ns]"),
    ]
    assert (inputs["matrix"]["dtype"], inputs["matrix"]["shape"]) == ("float64", [None, 2])
    assert (inputs["flags"]["dtype"], inputs["flags"]["shape"]) == ("bool", [None])
    assert inputs["limit"]["swagger"] == {"type": "integer", "format": "int64"}
    parsed = parse_schema(schema)
    parsed.decode(body)
    parsed.decode(sample_from_schema(parsed))


def test_a_bare_value_and_a_sample_file() -> None:
    assert list(from_json("[[1, 2]]", "input_array")["input"]) == ["input_array"]
    assert list(from_json('{"input": {"x": 1}, "output": 2}', "data")["input"]) == ["x"]


def test_rows() -> None:
    text = "n,x,ok,when,name,none\n1,1.5,true,2024-01-01,a,\n2,,FALSE,2024-01-02,,\n3,-1e3,true,2024-01-03,b,\n"
    entry = from_csv(text, "df")["input"]["df"]
    assert [c["dtype"] for c in entry["columns"]] == ["int64", "float64", "bool", "datetime64[ns]", "str", "float64"]
    assert entry["example"][1] == {"n": 2, "x": None, "ok": False, "when": "2024-01-02", "name": None, "none": None}
    parsed = parse_schema({"input": {"df": entry}})
    assert len(parsed.decode(sample_from_schema(parsed))["df"]) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "first line"), ("a,b\n", "at least one row"), ("a,a\n1,2\n", "same name"), ("a,b\n1\n", "row 2 has 1 cells")],
)
def test_rows_that_cannot_be_used(text: str, said: str) -> None:
    with pytest.raises(NoSchema, match=said):
        from_csv(text, "df")


@pytest.mark.parametrize("text", ["{", "{}", "[" * 100_000])
def test_bodies_that_cannot_be_used(text: str) -> None:
    with pytest.raises(NoSchema):
        from_json(text, "data")


HINTS: list[tuple[str, dict[str, Any]]] = [
    ("int", {"type": "integer", "format": "int64"}),
    ("'float'", {"type": "number", "format": "double"}),
    (
        "list[list[float]]",
        {"type": "array", "items": {"type": "array", "items": {"type": "number", "format": "double"}}},
    ),
    ("dict[str, int]", {"type": "object", "additionalProperties": {"type": "integer", "format": "int64"}}),
    ("Optional[str]", {"type": "string", "nullable": True}),
    ("str | None", {"type": "string", "nullable": True}),
    ("Union[str, bool]", {"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
    ("Literal['a', 'b']", {"enum": ["a", "b"]}),
    ("bytes", {"type": "string", "format": "byte"}),
    ("datetime.date", {"type": "string", "format": "date"}),
    ("timedelta", {"type": "string", "format": "timedelta"}),
    ("decimal.Decimal", {"type": ["string", "number"], "format": "decimal"}),
    ("t.Annotated[int, 'x']", {"type": "integer", "format": "int64"}),
]


@pytest.mark.parametrize(("hint", "fragment"), HINTS)
def test_hints(hint: str, fragment: dict[str, Any]) -> None:
    schema = from_script(f"def run(x: {hint}): ...")
    assert schema["input"]["x"]["swagger"] == fragment
    parse_schema(schema)


def test_a_whole_script_is_read_and_never_run() -> None:
    source = (
        "raise SystemExit('ran')\nimport numpy as np\n"
        "async def run(text: str, k: int = 3, *, rows: npt.NDArray[np.float32], request): ..."
    )
    inputs = from_script(source)["input"]
    assert list(inputs) == ["text", "k", "rows"]
    assert (inputs["k"]["example"], inputs["k"]["required"]) == (3, False)
    assert "required" not in inputs["text"]
    assert (inputs["rows"]["dtype"], inputs["rows"]["shape"]) == ("float32", [None, None])
    assert run_parameters(source) == ["text", "k", "rows"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def run(x): ...", "line 1: the parameter 'x' of run"),
        ("def run(df: pd.DataFrame): ...", "names no columns"),
        ("def run(x: Model): ...", "the hint 'Model' of 'x'"),
        ("def go(): ...", "no `def run"),
        ("def run(: ...", "line 1: it is no Python"),
        ("def run(): ...", "no parameters"),
    ],
)
def test_scripts_that_do_not_tell(source: str, said: str) -> None:
    with pytest.raises(NoSchema, match=said):
        from_script(source)
