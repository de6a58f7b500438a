"""swagger.json, openapi.json and /docs: golden files, validators, and who may read them."""

import base64
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import orjson
import pytest

from argosy_serving.arrow import ARROW
from argosy_serving.documents import About, openapi, swagger
from argosy_serving.npy import NPY
from argosy_serving.schema import Schema, parse_schema

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = {
    "input": {
        "rows": {"type": "numpy", "dtype": "float64", "shape": [None, 2], "example": [[1.5, 2]]},
        "df": {
            "type": "pandas",
            "columns": [{"name": "sepal length", "dtype": "float64"}, {"name": "kind", "dtype": "category",
                                                                       "categories": ["a", "b"]}],
            "example": [{"sepal length": 3.0, "kind": "a"}],
        },
        "image": {"type": "standard", "swagger": {"type": "string", "format": "byte"}, "example": "aGk="},
        "options": {
            "type": "standard",
            "swagger": {"type": "object", "properties": {"k": {"type": ["integer", "null"], "exclusiveMinimum": 0},
                                                         "mode": {"const": "fast"},
                                                         "old": {"type": "string", "nullable": True}}},
        },
    },
    "output": {"label": {"swagger": {"type": "array", "items": {"type": "string"}}, "example": ["a"]}},
}  # fmt: skip
ABOUT = About("iris", 3, "iris:1", "/api/v1/service/iris", "https", True, (ARROW, NPY))


def golden(name: str, made: bytes) -> None:
    """ARGOSY_WRITE_GOLDEN=1 writes the file instead; look at the difference before committing it."""
    path = GOLDEN / name
    if os.environ.get("ARGOSY_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made + b"\n")
    assert orjson.loads(made) == orjson.loads(path.read_bytes())


@pytest.mark.parametrize("schema", [parse_schema(SCHEMA), None], ids=["schema", "bare"])
@pytest.mark.parametrize("prefix", ["", "/api/v1/service/iris"])
def test_documents_are_valid(schema: Schema | None, prefix: str) -> None:
    about = About("iris", 3, "iris:1", prefix, "http", bool(prefix), (ARROW, NPY))
    for render in (swagger, openapi):
        openapi_spec_validator.validate(orjson.loads(render(about, schema)))


@pytest.mark.shows(
    "Documents",
    "Golden files of both documents",
    "`tests/serving/golden/`",
)
def test_golden_documents() -> None:
    schema = parse_schema(SCHEMA)
    golden("swagger.json", swagger(ABOUT, schema))
    golden("openapi.json", openapi(ABOUT, schema))


def test_the_example_fits_the_document_and_the_decoder() -> None:
    schema = parse_schema(SCHEMA)
    shape = orjson.loads(openapi(ABOUT, schema))["components"]["schemas"]["ServiceInput"]
    (example,) = shape["examples"]
    jsonschema.validate(example, shape)
    schema.decode(example)
    old = orjson.loads(swagger(ABOUT, schema))["definitions"]["ServiceInput"]
    assert old["example"] == example
    assert old["required"] == ["rows", "df", "image", "options"]


@pytest.mark.shows(
    "Documents",
    "Key, security definition and the true scheme",
    "401 without a key; `schemes: [https]` behind TLS",
)
def test_who_may_read_them(replica: Any) -> None:
    replica.write_image("def run(rows, df, image, options): return ['a']", SCHEMA)
    replica.start(behind_gateway=True)
    prefix = "/api/v1/service/iris"
    bearer = {"authorization": "Bearer the-secondary-key"}
    basic = {"authorization": "Basic " + base64.b64encode(b"me:the-primary-key").decode()}
    pages = ("/docs", "/swagger.json", "/openapi.json", "/docs/swagger-ui.css")
    for page in [*pages, *(prefix + page for page in pages)]:
        reply = replica.get(page)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Basic realm="iris"')
        assert replica.get(page, {"authorization": "Basic !"}).status == 401
        for headers in (bearer, basic):
            assert replica.get(page, headers).status == 200
    document = replica.get(prefix + "/swagger.json", {**bearer, "x-forwarded-proto": "https"}).json
    assert document["schemes"] == ["https"]
    assert set(document["paths"]) == {prefix + "/", prefix + "/score"}
    assert document["securityDefinitions"]["key"]["type"] == "apiKey"
    assert replica.get("/swagger.json", {**bearer, "x-forwarded-proto": "evil"}).json["schemes"] == ["http"]
    assert replica.get(prefix + "/openapi.json", bearer).json["servers"] == [{"url": prefix}]
    replica.write_settings(generation=2, public_docs=True, scheme="https")
    replica.admin("POST", "/reload")
    assert replica.get("/swagger.json").json["schemes"] == ["https"]


def test_the_page_needs_no_other_host(replica: Any) -> None:
    replica.write_image("def run(x): return x")
    replica.write_settings(public_docs=True)
    replica.start()
    for base in ("", "/api/v1/service/iris"):
        page = replica.get(f"{base}/docs")
        text = page.body.decode()
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert "://" not in text
        assert not re.search(r"<script>|\son\w+=", text), "inline script would break the policy"
        for asset in re.findall(r'(?:src|href)="(docs/[^"]+)"', text):
            found = replica.get(f"{base}/{asset}")
            assert found.status == 200
            assert found.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")
        assert b'"openapi.json"' in replica.get(f"{base}/docs/start.js").body
        assert replica.get(f"{base}/docs/").headers["location"] == "../docs"
