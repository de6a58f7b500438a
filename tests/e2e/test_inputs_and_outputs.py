"""Everything that callers send and scripts return, through the gateway, with real models of scikit-learn."""

import base64
import gzip
import importlib.metadata
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from uv import find_uv_bin

from e2e.calls import Reply, call
from e2e.running import Argosy
from e2e.scored import (
    DIGITS,
    DIGITS_SCHEMA,
    HOUSE,
    HOUSE_COLUMNS,
    HOUSES,
    HOUSES_SCHEMA,
    PICTURE,
    ROWS,
    ROWS_SCHEMA,
    VILLA,
)

ARROW, NPY = "application/vnd.apache.arrow.stream", "application/x-npy"
REQUIREMENTS = "".join(
    f"{name}=={importlib.metadata.version(name)}\n"
    for name in ("scikit-learn", "numpy", "pandas", "pyarrow", "pillow", "zstandard")
)
TRITON = "tritonclient[http]==2.73.0"


def digit(number: int) -> Any:
    from sklearn.datasets import load_digits

    return load_digits().images[number]


def png(number: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray((digit(number) * 15.9).astype("uint8")).save(out, format="PNG")
    return out.getvalue()


def picture_schema() -> dict[str, Any]:
    """With an example, for bytes that are no picture would be no sample."""
    example = base64.b64encode(png(0)).decode()
    return {"input": {"picture": {"swagger": {"type": "string", "format": "byte"}, "example": example}}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`digits.joblib` takes 64 greys, `houses.joblib` a DataFrame with gaps and categories."""
    import joblib
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.datasets import load_digits
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    folder = tmp_path_factory.mktemp("models")
    digits = load_digits()
    joblib.dump(KNeighborsClassifier(1).fit(digits.data, digits.target), folder / "digits.joblib")
    kinds = ["flat", "flat", "villa", "villa"]
    houses = pd.DataFrame({"rooms": [1.0, 3, None, 5], "floor": [0, 1, 0, 2], "kind": kinds})
    columns = make_column_transformer(
        (SimpleImputer(strategy="constant", fill_value=6.0), ["rooms"]),
        ("passthrough", ["floor"]),
        (OneHotEncoder(), ["kind"]),
    )
    model = make_pipeline(columns, LinearRegression())
    joblib.dump(model.fit(houses, [100.0, 300.0, 900.0, 700.0]), folder / "houses.joblib")
    return folder


@pytest.fixture(scope="module")
def services(argosy: Argosy, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Argosy:
    """houses, digits, picture and rows."""
    folder = tmp_path_factory.mktemp("services")
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    for name, model, script, schema in (
        ("houses", "houses.joblib", HOUSES, HOUSES_SCHEMA),
        ("digits", "digits.joblib", DIGITS, DIGITS_SCHEMA),
        ("picture", "digits.joblib", PICTURE, picture_schema()),
        ("rows", "digits.joblib", ROWS, ROWS_SCHEMA),
    ):
        place = folder / name
        place.mkdir()
        (place / "score.py").write_text(script)
        (place / "schema.json").write_text(json.dumps(schema))
        argosy.ok(
            *("service", "create", name, "-m", models / model, "-f", place / "score.py"),
            *("-s", place / "schema.json", "-p", folder / "requirements.txt"),
        )
    return argosy


def score(services: Argosy, service: str, body: Any, **headers: str) -> Reply:
    url = services.json("service", "show", service)["scoring_url"]
    return call(url, body, token=services.key(service), headers={k.replace("_", "-"): v for k, v in headers.items()})


def houses(services: Argosy, rows: Any, give: str = "array", **headers: str) -> Reply:
    return score(services, "houses", {"houses": rows, "give": give}, **headers)


def priced(services: Argosy, rows: Any) -> list[int]:
    reply = houses(services, rows)
    assert reply.status == 200, reply.content
    return [round(price) for price in reply.json]


def npy(array: Any) -> bytes:
    np.save(out := io.BytesIO(), array)
    return out.getvalue()


@pytest.mark.shows(
    "Inputs and outputs",
    "pandas: dtypes, dates, categories, missing values, any key order",
    "`float64`, `int16`, `datetime64[ns]`, `category`, `str`",
)
@pytest.mark.shows(
    "Inputs and outputs",
    "pandas: orients",
    "`records`, `split`, `columns` with lists or row objects",
)
def test_frames(services: Argosy) -> None:
    """Dtypes, dates, categories, missing values, any key order; a whole number of 0.0 is one."""
    assert houses(services, [HOUSE, VILLA], "types").json[:4] == ["float64", "int16", "datetime64[ns]", "category"]
    expected = priced(services, [HOUSE, VILLA])
    assert expected[1] > expected[0]
    columns = [column["name"] for column in HOUSE_COLUMNS]
    rows = [[row[name] for name in columns] for row in (HOUSE, VILLA)]
    for form in (
        {"columns": columns, "data": rows},
        {"columns": columns[::-1], "index": [7, 8], "data": [row[::-1] for row in rows]},
        {name: [row[place] for row in rows] for place, name in enumerate(columns)},
        {name: {"0": rows[0][place], "1": rows[1][place]} for place, name in enumerate(columns)},
    ):
        assert priced(services, form) == expected
    assert priced(services, [{**HOUSE, "further": [1]}, VILLA]) == expected, "further columns are passed over"


@pytest.mark.shows(
    "Inputs and outputs",
    "numpy: any rank and dtype, structured",
    '`float32` of three axes, `uint8` of four, `[["age", "int32"], ["name", "str"]]`',
)
@pytest.mark.shows(
    "Inputs and outputs",
    "Standard Python with dates and decimals, bytes as base64",
    "`datetime.date`, `decimal.Decimal`, `bytes`",
)
@pytest.mark.shows(
    "Inputs and outputs",
    "Validation",
    "JSON pointer, expected and received; nothing is truncated",
)
def test_arrays_structures_and_plain_values(services: Argosy) -> None:
    people = [{"name": "Ada", "age": 36}, {"age": 41.0, "name": "Bob"}]
    body = {
        "pictures": [digit(0).tolist(), digit(1).tolist()], "scales": [[[[1]]]], "people": people, "day": "2024-05-31",
        "price": "12.50", "note": base64.b64encode("ä".encode()).decode(),
    }  # fmt: skip
    reply = score(services, "digits", body)
    assert reply.status == 200, reply.content
    assert reply.json == {"digits": [0, 1], "ages": [36, 41], "day": "2024-05-31", "price": 12.5, "note": "ä"}
    for change, pointer in (
        ({"pictures": [digit(0).tolist()[:7]]}, "/pictures/0"),
        ({"scales": [[[[256]]]]}, "/scales/0/0/0/0"),
        ({"people": [{"name": "Ada", "age": 36.5}]}, "/people/0/age"),
        ({"day": "2024-02-30"}, "/day"),
        ({"price": "12,50"}, "/price"),
        ({"note": "no base64"}, "/note"),
    ):
        refused = score(services, "digits", {**body, **change})
        assert (refused.status, refused.error["details"]["pointer"]) == (400, pointer)
        assert refused.error["details"]["expected"] and refused.error["details"]["received"]
    missing = score(services, "digits", {name: value for name, value in body.items() if name != "day"})
    assert (missing.status, missing.error["details"]["pointer"]) == (400, "/day")


@pytest.mark.shows(
    "Inputs and outputs",
    "Images",
    "base64 in JSON, `image/png` as the body, a file of a multipart form",
)
def test_pictures(services: Argosy) -> None:
    """Base64 in JSON, the bytes as they are, and a file of a form."""
    assert score(services, "picture", {"picture": base64.b64encode(png(5)).decode()}).json == 5
    assert score(services, "picture", png(6), content_type="image/png").json == 6
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    form = head + png(7) + b"\r\n--x--\r\n"
    assert score(services, "picture", form, content_type="multipart/form-data; boundary=x").json == 7


@pytest.mark.shows(
    "Inputs and outputs",
    "Arrow IPC stream in and out",
    "`Content-Type` and `Accept: application/vnd.apache.arrow.stream`",
)
def test_arrow(services: Argosy) -> None:
    import pyarrow as pa

    table = pa.table(
        {
            "town": pa.array(["Ulm", None]), "kind": pa.array(["flat", "villa"]).dictionary_encode(),
            "floor": pa.array([1, 0], pa.int8()), "rooms": pa.array([3.0, None]),
            "built": pa.array([631152000, 1275350400], pa.timestamp("s")),
        }
    )  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    form = (
        b'--x\r\nContent-Disposition: form-data; name="give"\r\n\r\nframe\r\n--x\r\n'
        b'Content-Disposition: form-data; name="houses"; filename="h"\r\nContent-Type: ' + ARROW.encode() + b"\r\n\r\n"
    )  # two inputs: the table is one part of a form
    body = form + sink.getvalue().to_pybytes() + b"\r\n--x--\r\n"
    reply = score(services, "houses", body, content_type="multipart/form-data; boundary=x", accept=ARROW)
    assert (reply.status, reply.headers["content-type"]) == (200, ARROW), reply.content
    answer = pa.ipc.open_stream(reply.content).read_all().to_pydict()
    assert [round(price) for price in answer["price"]] == priced(services, [HOUSE, VILLA])
    assert answer["rooms"] == [3.0, None] and answer["kind"] == ["flat", "villa"]


@pytest.mark.shows(
    "Inputs and outputs",
    "npy in and out",
    "`Content-Type` and `Accept: application/x-npy`",
)
def test_npy(services: Argosy) -> None:
    rows = np.stack([digit(n).reshape(-1) for n in (2, 3)])
    reply = score(services, "rows", npy(rows.astype("int64")), content_type=NPY, accept=NPY)
    assert (reply.status, reply.headers["content-type"]) == (200, NPY)
    assert np.load(io.BytesIO(reply.content)).tolist() == [2, 3]
    refused = score(services, "rows", npy(rows[:, :63]), content_type=NPY)
    assert (refused.status, refused.error["code"]) == (400, "invalid_input")


@pytest.mark.shows(
    "Inputs and outputs",
    "Compressed bodies, with a limit on what comes out",
    "`Content-Encoding: gzip`, `zstd`; a bomb is a 413",
)
def test_compressed_bodies(services: Argosy) -> None:
    body = json.dumps({"rows": [digit(4).reshape(-1).tolist()]}).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("zstd", zstandard.compress(body))):
        assert score(services, "rows", packed, content_encoding=encoding).json == [4]
    bomb = b" " * 30_000_000
    for encoding, packed in (("gzip", gzip.compress(bomb)), ("zstd", zstandard.compress(bomb))):
        assert len(packed) < 100_000
        assert score(services, "rows", packed, content_encoding=encoding).status == 413


@pytest.mark.shows(
    "Inputs and outputs",
    "Answers: numpy, pandas, datetime, bytes",
    "ISO 8601, base64, row objects",
)
@pytest.mark.shows(
    "Inputs and outputs",
    "Answers: NaN and infinity",
    "`null`",
)
@pytest.mark.shows(
    "Inputs and outputs",
    "Answers: response objects",
    "`argosy_serving.Response(body, 201, headers)`",
)
def test_answers(services: Argosy) -> None:
    frame = houses(services, [HOUSE], "frame").json
    assert [set(row) for row in frame] == [{*HOUSE, "price"}] and frame[0]["built"].startswith("1990-01-01T00:00:00")
    gaps = houses(services, [HOUSE, VILLA], "gaps").json
    assert gaps["prices"][1] is gaps["most"] is gaps["none"] is None and round(gaps["prices"][0]) == 300
    assert houses(services, [HOUSE], "values").json == {
        "at": "2024-05-31T12:00:00+00:00", "day": "2024-05-31", "bytes": "AAE=", "count": 1
    }  # fmt: skip
    reply = houses(services, [HOUSE], "response")
    assert (reply.status, reply.headers["content-type"], reply.headers["x-houses"]) == (201, "text/csv", "1")
    assert reply.content == b"price\n300\n"


@pytest.mark.shows(
    "Inputs and outputs",
    "Validation of columns",
    "1.5 for `int16`, 40000 for `int16`, an unknown category: 400 with `/houses/0/floor`",
)
def test_columns_that_do_not_fit(services: Argosy) -> None:
    for change, pointer in (
        ({"rooms": "three"}, "/houses/0/rooms"),
        ({"floor": 1.5}, "/houses/0/floor"),
        ({"floor": 40000}, "/houses/0/floor"),
        ({"floor": None}, "/houses/0/floor"),
        ({"built": "yesterday"}, "/houses/0/built"),
        ({"kind": "castle"}, "/houses/0/kind"),
    ):
        refused = houses(services, [{**HOUSE, **change}])
        assert (refused.status, refused.error["details"]["pointer"]) == (400, pointer)


TRITON_CALLS = """
import json, sys
import numpy as np
import tritonclient.http as triton

address, key, file = sys.argv[1:]
rows = np.load(file)
client = triton.InferenceServerClient(address)
answers = []
for binary in (False, True):
    tensor = triton.InferInput("rows", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    wanted = [triton.InferRequestedOutput("output", binary_data=binary)]
    result = client.infer("rows", [tensor], outputs=wanted, headers={"Authorization": f"Bearer {key}"})
    answers.append(result.as_numpy("output").tolist())
print(json.dumps([client.is_server_ready(), client.is_model_ready("rows"), answers]))
"""


@pytest.mark.shows(
    "Inputs and outputs",
    "Open Inference Protocol v2",
    "`tritonclient[http]`, JSON and binary tensors, through the gateway",
)
def test_tritons_client(services: Argosy, tmp_path: Path) -> None:
    (tmp_path / "rows.npy").write_bytes(npy(np.stack([digit(n).reshape(-1) for n in (8, 9)])))
    (tmp_path / "calls.py").write_text(TRITON_CALLS)
    base = services.json("service", "show", "rows")["scoring_url"].removesuffix("/score").partition("://")[2]
    command = [find_uv_bin(), "run", "--quiet", "--no-project", "--python", sys.executable, "--with", TRITON]
    done = subprocess.run(
        [*command, "python", "calls.py", base, services.key("rows"), "rows.npy"],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True, [[8, 9], [8, 9]]]
