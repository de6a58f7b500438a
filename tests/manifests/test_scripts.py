from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.errors import InvalidScript
from argosy.manifests.scripts import Parameter, Script, check_inputs, check_script


def read(text: str, files: tuple[str, ...] = ()) -> Script:
    return check_script("score.py", text.encode(), files)


def test_a_script_of_2017() -> None:
    script = read(
        "import json\nimport numpy as np\n\n"
        "def init():\n    from sklearn.externals import joblib\n    global model\n"
        "    model = joblib.load('model.pkl')\n\n"
        "def run(input_df, threshold=0.5):\n    return json.dumps(str(model.predict(input_df)[0]))\n\n"
        "def main():\n    from azureml.api.schema.dataTypes import DataTypes\n    run(None)\n"
    )
    assert script.parameters == (Parameter("input_df", True), Parameter("threshold", False))
    assert script.has_init
    assert not script.is_async
    assert not script.has_request_param
    assert script.imports == ("azureml", "numpy", "sklearn")
    assert "sklearn.externals" in script.dotted_imports


def test_request_is_no_input() -> None:
    script = read("async def run(data, *, request): ...")
    assert script.parameters == (Parameter("data", True),)
    assert script.has_request_param
    assert script.is_async


def test_decorators_of_azure() -> None:
    script = read(
        "from inference_schema.schema_decorators import input_schema\n"
        "@input_schema('data', 1)\n@input_schema(param_name='rate', param_type=2)\n@output_schema(3)\n"
        "def run(data, rate): ..."
    )
    assert script.inputs == ("rate", "data")
    check_inputs("score.py", script, None)
    raw = read("@rawhttp\ndef run(request): ...")
    assert raw.is_raw
    check_inputs("score.py", raw, None)


@pytest.mark.parametrize(
    "text",
    ["run = make()", "from handler import run", "import run", "run: object = make()", "class run: ...", "a, run = b"],
)
def test_a_run_that_does_not_tell_its_parameters(text: str) -> None:
    script = read(text)
    assert script.parameters is None
    check_inputs("score.py", script, ["anything"])


@pytest.mark.parametrize(
    "text",
    [
        "if True:\n    def run(body): ...",
        "try:\n    import fast\n    def run(body): ...\nexcept ImportError:\n    pass",
        "try:\n    import fast\nexcept ImportError:\n    def run(body): ...",
        "def run(x, y): ...\ndef run(body): ...",
        "with open('x') as f:\n    def run(body): ...",
    ],
)
def test_runs_in_blocks(text: str) -> None:
    assert read(text).parameters == (Parameter("body", True),)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"def run(:\n", "line 1 is no Python"),
        (b"x = 1\ndef run(x):\nreturn 1\n", "line 3 is no Python"),
        (b"print 'hello'\ndef run(x): ...", "line 1 is no Python"),
        (b"# fine\n# caf\xe9\ndef run(x): ...", "line 2 is not UTF-8"),
        (b"", "defines no `run`"),
        (b"class Model:\n    def run(self, x): ...\n", "defines no `run`"),
        (b"def init():\n    def run(x): ...\n", "defines no `run`"),
        (b"run: int\n", "defines no `run`"),
        (b"def init(path): ...\ndef run(x): ...", "`init` is called without arguments, but it wants path"),
        (b"def init(*, path): ...\ndef run(x): ...", "wants path"),
        (b"def run(a, b, /): ...", "Remove the `/`"),
        (b"x = 1\x00\ndef run(x): ...", ""),
        (b"(" * 5000, ""),
        (b"-" * 200_000 + b"1", ""),
        (b"#" * 5_000_001, "not read"),
    ],
)
def test_scripts_that_cannot_work(source: bytes, said: str) -> None:
    with pytest.raises(InvalidScript) as caught:
        check_script("score.py", source)
    assert caught.value.message.startswith("score.py: ")
    assert said in caught.value.message


def test_an_init_with_defaults_is_fine() -> None:
    assert read("def init(path='x', *more, flag=1, **rest): ...\ndef run(x): ...").has_init


def test_own_files_and_the_standard_library_are_no_dependencies() -> None:
    script = read(
        "import os.path, helpers, pack.deep, numpy.linalg\nfrom . import near\nfrom score import x\n"
        "from google.cloud import storage\ndef run(x):\n    import late",
        files=("score.py", "helpers.py", "pack/deep.py", "data/x.csv"),
    )
    assert script.imports == ("google", "late", "numpy")
    assert set(script.dotted_imports) == {"google.cloud", "google.cloud.storage", "late", "numpy.linalg"}


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("def run(a, b): ...", ["b", "a"]),
        ("def run(a, b=1): ...", ["a"]),
        ("def run(a, request): ...", ["a"]),
        ("def run(**inputs): ...", ["a", "b"]),
        ("def run(a, **more): ...", ["a", "b"]),
        ("def run(): ...", []),
        ("def run(body): ...", None),
        ("def run(body, request=None): ...", None),
        ("def run(body, n=1): ...", None),
        ("def run(*body): ...", []),
    ],
)
def test_inputs_that_fit(text: str, inputs: list[str] | None) -> None:
    check_inputs("score.py", read(text), inputs)


@pytest.mark.parametrize(
    ("text", "inputs", "said"),
    [
        ("def run(a): ...", ["b"], "does not take b and the schema lacks a"),
        ("def run(a, b): ...", ["a"], "the schema lacks b"),
        ("def run(a): ...", ["a", "b"], "`run` does not take b"),
        ("def run(a, **more): ...", ["b"], "the schema lacks a"),
        ("def run(): ...", None, "takes: nothing"),
        ("def run(a, b): ...", None, "takes: a, b"),
    ],
)
def test_inputs_that_do_not_fit(text: str, inputs: list[str] | None, said: str) -> None:
    with pytest.raises(InvalidScript) as caught:
        check_inputs("score.py", read(text), inputs)
    assert said in caught.value.message


def test_nothing_is_ever_run() -> None:
    read("raise SystemExit('ran')\ndef run(x): ...")


@settings(deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(source: bytes) -> None:
    with suppress(InvalidScript):
        check_script("score.py", source + b"\ndef run(x): ...\n")
