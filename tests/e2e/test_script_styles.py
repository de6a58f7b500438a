"""Scoring scripts of every style, and what they are given: inputs, environment variables and secrets."""

import base64
import json
from pathlib import Path

import pytest

from argosy.images.pythons import list_pythons
from e2e.calls import Reply, call
from e2e.running import Argosy, RecipeFolder

SECRETS = {"OUR_TOKEN": "kept-in-the-environment-4711", "FILE": "kept-in-a-file-0815"}


@pytest.fixture(scope="module")
def argosy(module_home: Path) -> Argosy:
    running = Argosy(module_home, {"OUR_TOKEN": SECRETS["OUR_TOKEN"]})
    running.up()
    return running


def deploy(argosy: Argosy, recipe: RecipeFolder, name: str, script: str, *options: object) -> None:
    argosy.ok(
        *("service", "create", name, "-m", recipe.model(2), *recipe.options(script, schema=False)),
        *options,
    )


def score(argosy: Argosy, service: str, body: object, **headers: str) -> Reply:
    url = argosy.json("service", "show", service)["scoring_url"]
    return call(url, body, token=argosy.key(service), headers=headers)


def schema_file(folder: Path, inputs: dict[str, object]) -> Path:
    path = folder / "schema.json"
    path.write_text(json.dumps({"input": inputs}))
    return path


@pytest.mark.shows(
    "Scripts that run unmodified",
    "2017 Azure ML: answers that are JSON inside a string",
    "`return json.dumps(...)`; `--string-answers raw` undoes it",
)
def test_a_script_of_2017_keeps_its_callers(argosy: Argosy, recipe: RecipeFolder) -> None:
    """The model lies in the working directory, and the JSON string that `run` returns is encoded once more."""
    script = (
        "import json, joblib\n"
        "def init():\n"
        "    global model\n"
        "    model = joblib.load('model.joblib')\n"
        "def run(numbers):\n"
        "    return json.dumps({'result': [model['factor'] * n for n in numbers], 'label': 'é'})\n"
    )
    options = ("-s", recipe.folder / "schema.json")
    deploy(argosy, recipe, "style2017", script, *options)
    reply = score(argosy, "style2017", {"numbers": [1.5, 2]})
    assert reply.content.decode() == r'"{\"result\": [3.0, 4], \"label\": \"\\u00e9\"}"'
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert json.loads(reply.json) == {"result": [3.0, 4], "label": "é"}, "callers of then decode twice"
    argosy.ok("service", "update", "style2017", "--string-answers", "raw")
    assert score(argosy, "style2017", {"numbers": [1]}).json == {"result": [2], "label": "é"}


@pytest.mark.shows(
    "Scripts that run unmodified",
    "Azure ML v1/v2: `run(raw_data)` without a schema",
    "`json.loads(raw_data)['data']`",
)
def test_a_current_azure_script_runs_unmodified(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = (
        "import json, logging, os\n"
        "import joblib\n"
        "def init():\n"
        "    global model\n"
        "    model = joblib.load(os.path.join(os.getenv('AZUREML_MODEL_DIR'), 'model.joblib'))\n"
        "    logging.info('Init complete')\n"
        "def run(raw_data):\n"
        "    logging.info('Request received')\n"
        "    data = json.loads(raw_data)['data']\n"
        "    return [model['factor'] * row[0] for row in data]\n"
    )
    deploy(argosy, recipe, "azure", script)
    assert score(argosy, "azure", {"data": [[1], [5]]}).json == [2.0, 10.0]


def test_without_a_schema_run_gets_the_body_as_text(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = "def run(body):\n    return {'type': type(body).__name__, 'body': body}\n"
    deploy(argosy, recipe, "plain", script)
    for body in ('{"a": 1}', "no json at all: é", ""):
        assert score(argosy, "plain", body.encode(), **{"content-type": "text/plain"}).json == {
            "type": "str",
            "body": body,
        }
    assert "say what to send" in argosy.fails("service", "run", "plain"), "there is no sample"


def test_several_inputs_and_bytes(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    schema = schema_file(
        tmp_path,
        {
            "picture": {"type": "standard", "swagger": {"type": "string", "format": "byte", "example": "AAEC"}},
            "scale": {"type": "standard", "swagger": {"type": "number", "example": 1.5}},
            "names": {
                "type": "standard",
                "swagger": {"type": "array", "items": {"type": "string"}, "example": ["a"]},
            },
        },
    )
    script = "def run(picture, scale, names):\n    return [type(picture).__name__, picture, scale, names]\n"
    deploy(argosy, recipe, "several", script, "-s", schema)
    assert argosy.json("service", "run", "several") == ["bytes", "AAEC", 1.5, ["a"]]
    every_byte = base64.b64encode(bytes(range(256))).decode()
    body = {"names": [], "scale": 2, "picture": every_byte}
    assert score(argosy, "several", body).json == ["bytes", every_byte, 2.0, []]
    reply = score(argosy, "several", body | {"picture": "not base64!"})
    assert (reply.status, reply.error["code"], reply.error["details"]["pointer"]) == (400, "invalid_input", "/picture")


def test_several_models_and_further_files(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "table.txt").write_text("from the folder")
    (tmp_path / "helper.py").write_text("WORD = 'from the module'\n")
    (tmp_path / "other.txt").write_text("other model")
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "import helper\n"
        "def run(body):\n"
        "    root = Path(os.environ['AZUREML_MODEL_DIR'])\n"
        "    files = sorted(str(p.relative_to(root)) for p in root.rglob('*') if p.is_file())\n"
        "    return [helper.WORD, Path('rules/table.txt').read_text(), Path('other.txt').read_text(), files]\n"
    )
    for path, name in ((recipe.model(2), "first"), (tmp_path / "other.txt", "second")):
        argosy.ok("model", "register", path, "-n", name)
    argosy.ok(
        *("service", "create", "files", "-i", "first:1", "-i", "second:1", *recipe.options(script, schema=False)),
        *("-D", tmp_path / "rules", "-D", tmp_path / "helper.py"),
    )
    assert argosy.json("service", "run", "files", "-d", "{}") == [
        "from the module",
        "from the folder",
        "other model",
        ["first/1/model.joblib", "second/1/other.txt"],
    ]
    refused = argosy.fails("service", "update", "files", "-m", recipe.model(3))
    assert "first:1" in refused and "-i" in refused, "which of the two is meant must be said"


def test_variables_and_secrets_reach_the_script_and_nothing_else(
    argosy: Argosy, recipe: RecipeFolder, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(SECRETS["FILE"] + "\n")
    script = (
        "import hashlib, os\n"
        "def run(body):\n"
        "    return [os.environ['PLAIN'],\n"
        "            *(hashlib.sha256(os.environ[n].encode()).hexdigest() for n in ('FROM_ENV', 'FROM_FILE')),\n"
        "            'OUR_TOKEN' in os.environ]\n"
    )
    deploy(
        *(argosy, recipe, "secretive", script, "-e", "PLAIN=a b=c"),
        *("--secret", "FROM_ENV=env:OUR_TOKEN", "--secret", f"FROM_FILE=file:{tmp_path}/secret"),
    )
    from hashlib import sha256

    seen = argosy.json("service", "run", "secretive", "-d", "{}")
    assert seen == [
        "a b=c",
        *(sha256(SECRETS[n].encode()).hexdigest() for n in ("OUR_TOKEN", "FILE")),
        False,
    ], "nothing of the control plane's own environment comes along"
    recipe_shown = argosy.json("manifest", "show", "secretive")["recipe"]
    assert recipe_shown["environment"] == {"PLAIN": "a b=c"}
    assert recipe_shown["secrets"] == {"FROM_ENV": "env:OUR_TOKEN", "FROM_FILE": f"file:{tmp_path}/secret"}
    argosy.ok("service", "run", "secretive", "-d", "{}")
    for secret in (*SECRETS.values(), *argosy.json("service", "keys", "secretive").values()):
        assert _files_with(argosy.home, secret) == []
    for words in (
        ("manifest", "show", "secretive"),
        ("service", "show", "secretive"),
        ("service", "logs", "secretive"),
    ):
        for form in ("table", "json", "yaml"):
            text = argosy.ok(*words, "-o", form).out
            assert not any(secret in text for secret in SECRETS.values())


def _files_with(folder: Path, text: str) -> list[Path]:
    """Everything that the home keeps, with the database and its journal; the shared environments are not ours."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert any(p.name == "argosy.db" for p in files)
    return [p for p in files if text.encode() in p.read_bytes()]


def test_a_secret_that_is_not_there(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    words = ("-m", recipe.model(2), *recipe.options(), "--secret")
    refused = argosy.fails("service", "create", "leaky", *words, "KEY=the-value-itself")
    assert "env:NAME" in refused and "the-value-itself" not in refused
    missing = argosy.fails("service", "create", "leaky", *words, "KEY=env:NOT_SET_ANYWHERE", code=2)
    assert "NOT_SET_ANYWHERE" in missing
    missing = argosy.fails("service", "create", "leaky2", *words, f"KEY=file:{tmp_path}/nothing", code=2)
    assert f"{tmp_path}/nothing" in missing


def test_services_on_different_pythons(argosy: Argosy, recipe: RecipeFolder) -> None:
    own = argosy.json("version")["python"].rpartition(".")[0]
    others = sorted({p.minor for p in list_pythons()} & {f"3.{n}" for n in range(10, 15)} - {own})
    if not others:
        pytest.skip(f"needs a second Python of 3.10 to 3.14 beside {own}: uv python install 3.12")
    script = "import sys\ndef run(numbers):\n    return '.'.join(map(str, sys.version_info[:2]))\n"
    versions = {"python-own": own, "python-oldest": others[0], "python-other": others[-1]}
    for name, version in versions.items():
        words = (*recipe.options(script), "-r", f"python:{version}")
        argosy.ok("service", "create", name, "-m", recipe.model(2), *words)
    assert {name: argosy.json("service", "run", name) for name in versions} == versions
