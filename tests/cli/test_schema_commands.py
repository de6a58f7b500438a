import json
from pathlib import Path

from cli.conftest import Argosy
from sdk.fake_control_plane import FakeControlPlane

LOCK = {"python": "3.11", "text": "", "packages": {}}
RECIPE = {"models": [], "runtime": "python:3.11", "script": "score.py", "files": [], "lock": LOCK}


def manifest(schema: object) -> dict[str, object]:
    return {
        "name": "iris", "version": 1, "digest": "d", "recipe": {**RECIPE, "schema": schema}, "created_at": "2024-01-01"
    }  # fmt: skip


def test_infer_from_every_kind_of_file(argosy: Argosy, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,x\n")
    (tmp_path / "score.py").write_text("def run(input_df): ...\n")
    (tmp_path / "hinted.py").write_text("def run(text: str): ...\n")
    (tmp_path / "body.json").write_text('{"x": [[1.5]]}')
    rows = argosy("schema", "infer", str(tmp_path / "rows.csv"), "--script", str(tmp_path / "score.py"))
    assert list(json.loads(rows.out)["input"]) == ["input_df"]
    named = argosy("schema", "infer", str(tmp_path / "rows.csv"), "--input", "table")
    assert list(json.loads(named.out)["input"]) == ["table"]
    assert json.loads(argosy("schema", "infer", str(tmp_path / "hinted.py")).out)["input"]["text"]["type"] == "standard"
    assert json.loads(argosy("schema", "infer", str(tmp_path / "body.json")).out)["input"]["x"]["type"] == "numpy"


def test_infer_says_what_is_wrong(argosy: Argosy, tmp_path: Path) -> None:
    for name, content, said in (
        ("rows.txt", "a", "must be a sample (.json, .csv)"),
        ("rows.csv", "a", "at least one row"),
        ("score.py", "def run(x): ...", "has no type hint"),
        ("body.json", "{", "no JSON"),
        ("latin.csv", b"caf\xe9\n1\n", "not UTF-8"),
    ):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        ran = argosy("schema", "infer", str(tmp_path / name))
        assert (ran.code, ran.out) == (1, "")
        assert said in ran.err
    assert "cannot be read" in argosy("schema", "infer", str(tmp_path / "none.csv")).err


def test_diff_of_a_manifest_and_a_file(argosy: Argosy, fake: FakeControlPlane, tmp_path: Path) -> None:
    fake.answer("GET", "/v1/manifests/iris/1", manifest({"input": {"x": {"swagger": {"type": "number"}}}}))
    new = tmp_path / "new.json"
    new.write_text('{"input": {"x": {"swagger": {"type": "integer"}}, "y": {}}}')
    ran = argosy("schema", "diff", "iris:1", str(new))
    assert ran.code == 1
    assert "breaking  /input/x  from number to integer" in ran.out
    data = json.loads(argosy("schema", "diff", "iris:1", str(new), "-o", "json").out)
    assert data["breaking"] is True
    assert [change["where"] for change in data["changes"]] == ["/input/y", "/input/x"]
    same = argosy("schema", "diff", str(new), str(new))
    assert (same.code, same.out) == (0, "The schemas take the same.\n")


def test_diff_of_what_has_no_schema(argosy: Argosy, fake: FakeControlPlane, tmp_path: Path) -> None:
    fake.answer("GET", "/v1/manifests/iris/latest", manifest(None))
    (tmp_path / "bad.json").write_text('{"input": {"x": {"type": "nonsense"}}}')
    ran = argosy("schema", "diff", "iris", str(tmp_path / "bad.json"))
    assert ran.code == 1 and "has no schema" in ran.err
    ran = argosy("schema", "diff", str(tmp_path / "bad.json"), str(tmp_path / "bad.json"))
    assert ran.code == 1 and "at /input/x/type" in ran.err
