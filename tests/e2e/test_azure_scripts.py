"""Scripts, schema files and conda files written for Azure ML, of 2017 and of today, with real models of scikit-learn.

The scripts are what their documentation shows; nothing in them knows of Argosy.
"""

import base64
import importlib.metadata
import json
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from conftest import RanWith
from e2e.calls import Reply, call
from e2e.running import Argosy

NAMES = ["sepal length", "sepal width", "petal length", "petal width"]
FLOWER = {"sepal length": 5.1, "sepal width": 3.5, "petal length": 1.4, "petal width": 0.2}
OTHER = {"sepal length": 6.7, "sepal width": 3.0, "petal length": 5.2, "petal width": 2.3}


def version(name: str) -> str:
    return importlib.metadata.version(name)


CONDA = f"""\
name: project_environment
channels: [conda-forge]
dependencies:
  - numpy={version("numpy")}
  - scikit-learn={version("scikit-learn")}
  - pandas
  - pip:
    - joblib
"""
OF_2017 = CONDA + "    - azureml.datacollector==0.1.0a13\n    - azure-ml-api-sdk==0.1.0a11\n"
OF_TODAY = CONDA + "    - azureml-inference-server-http~=0.8\n    - inference-schema[numpy-support,pandas-support]\n"


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `models` with `iris.pkl`: a fitted classifier."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data = load_iris()
    folder = tmp_path_factory.mktemp("iris") / "models"
    folder.mkdir()
    joblib.dump(LogisticRegression(max_iter=500).fit(data.data, data.target), folder / "iris.pkl")
    return folder


def files(tmp_path: Path, script: str, conda: str | None = None) -> list[object]:
    (tmp_path / "score.py").write_text(script)
    if conda is None:
        return ["-f", tmp_path / "score.py"]
    (tmp_path / "conda.yml").write_text(conda)
    return ["-f", tmp_path / "score.py", "-c", tmp_path / "conda.yml"]


def score(argosy: Argosy, service: str, body: Any, query: str = "", **headers: str) -> Reply:
    url = argosy.json("service", "show", service)["scoring_url"]
    return call(url + query, body, token=argosy.key(service), headers=headers)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.place, "w")


def schema_of_2017(marker: Path) -> dict[str, Any]:
    number = {"type": "number", "format": "double"}
    swagger = {
        "type": "array",
        "items": {"type": "object", "properties": dict.fromkeys(NAMES, number)},
        "example": [FLOWER],
    }
    pickled = base64.b64encode(pickle.dumps(Bomb(str(marker)))).decode()
    return {"input": {"input_df": {"internal": pickled, "swagger": swagger, "type": 3}}}


SCRIPT_2017 = """
from azureml.api.schema.dataTypes import DataTypes
from azureml.api.schema.sampleDefinition import SampleDefinition
from azureml.api.realtime.services import generate_schema
from azureml.datacollector import ModelDataCollector
import joblib
import pandas

def init():
    global inputs_dc, prediction_dc, model
    model = joblib.load('iris.pkl')
    inputs_dc = ModelDataCollector('iris.pkl', identifier='inputs')
    prediction_dc = ModelDataCollector('iris.pkl', identifier='prediction')

def run(input_df):
    import json
    inputs_dc.collect(input_df)
    pred = model.predict(input_df.to_numpy())
    prediction_dc.collect(pred)
    return json.dumps(str(pred[0]))

def main():
    df = pandas.DataFrame(data=[[3.0, 3.6, 1.3, 0.25]], columns=['sl', 'sw', 'pl', 'pw'])
    inputs = {'input_df': SampleDefinition(DataTypes.PANDAS, df)}
    generate_schema(run_func=run, inputs=inputs, filepath='./outputs/service_schema.json')

if __name__ == '__main__':
    main()
"""


@pytest.mark.shows(
    "Scripts that run unmodified",
    "2017 Azure ML: script, conda file and schema file",
    "`init()`, `run(input_df)`, `joblib.load('iris.pkl')` in the working directory, `azureml.api.schema`",
)
@pytest.mark.shows(
    "Scripts that run unmodified",
    "2017 Azure ML: the pickled part of a schema file is never loaded",
    "a file whose pickle would write a marker",
)
@pytest.mark.shows(
    "Scripts that run unmodified",
    "2017 Azure ML: `ModelDataCollector`",
    "`collect(input_df)`, rows in the log with `AML_MODEL_DC_DEBUG=true`",
)
def test_2017(argosy: Argosy, iris: Path, tmp_path: Path, ran_with: RanWith) -> None:
    """Script, schema file and conda file as they were; the pickle in the schema file is loaded nowhere."""
    marker = tmp_path / "marker"
    (tmp_path / "schema.json").write_text(json.dumps(schema_of_2017(marker)))
    options = (*files(tmp_path, SCRIPT_2017, OF_2017), "-s", tmp_path / "schema.json", "-e", "AML_MODEL_DC_DEBUG=true")
    argosy.ok("service", "create", "of2017", "-m", iris / "iris.pkl", *options)
    reply = score(argosy, "of2017", {"input_df": [OTHER, FLOWER]}, **{"x-request-id": "of-2017"})
    assert (reply.status, reply.content) == (200, b'"\\"2\\""')
    shuffled = {"input_df": [dict(reversed(FLOWER.items()))]}
    assert score(argosy, "of2017", shuffled).content == b'"\\"0\\""', "any key order"
    assert argosy.json("service", "run", "of2017") == '"0"', "the sample of the schema file"
    bad = score(argosy, "of2017", {"input_df": [{"sepal length": 1}]})
    assert (bad.status, bad.error["details"]["pointer"]) == (400, "/input_df/0/sepal width")
    printed = argosy.ok("service", "logs", "of2017", "-r", "of-2017").out
    assert "$Timestamp,$CorrelationId,$RequestId,sepal length,sepal width,petal length,petal width" in printed
    assert ",of-2017,6.7,3.0,5.2,2.3" in printed
    notes = " ".join(argosy.json("manifest", "show", "of2017")["notes"])
    assert "azureml.datacollector==0.1.0a13 is left out" in notes and "azure-ml-api-sdk==0.1.0a11 is left out" in notes
    ran_with(argosy.versions("of2017", "scikit-learn", "numpy", "pandas"))
    assert not marker.exists()
    pickle.loads(base64.b64decode(schema_of_2017(marker)["input"]["input_df"]["internal"])).close()
    assert marker.exists(), "loading it would have written the marker"


SCRIPT_DECORATED = """
import os, logging, json
import joblib
import numpy as np
import pandas as pd
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

columns = ['sepal length', 'sepal width', 'petal length', 'petal width']
frame = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=columns)
nested = StandardPythonParameterType({'data': NumpyParameterType(np.array([[1.0, 2.0, 3.0, 4.0]]))})

def init():
    global model
    model = joblib.load(os.path.join(os.getenv('AZUREML_MODEL_DIR'), 'models', 'iris.pkl'))
    logging.info('Init complete')

@input_schema('data', PandasParameterType(frame))
@input_schema('more', NumpyParameterType(np.array([[5.1, 3.5, 1.4, 0.2]])))
@input_schema('Inputs', nested)
@input_schema('method', StandardPythonParameterType('predict'), optional=True)
@output_schema(NumpyParameterType(np.array([0])))
def run(data, more, Inputs, method='predict'):
    rows = np.vstack([data.to_numpy(), more, Inputs['data']])
    made_by = input_schema.__module__
    return {'prediction': getattr(model, method)(rows).tolist(), 'by': made_by, 'dtype': str(more.dtype)}
"""


@pytest.mark.parametrize("real", [True, False], ids=["the real inference-schema", "without it"])
@pytest.mark.shows(
    "Scripts that run unmodified",
    "Azure ML v1/v2: stacked `@input_schema`/`@output_schema`, the real package or without it",
    "pandas, numpy, nested and standard types of `inference_schema`",
)
@pytest.mark.shows(
    "Scripts that run unmodified",
    "Azure ML v1/v2: a registered folder keeps its name",
    "`os.path.join(os.getenv('AZUREML_MODEL_DIR'), 'models', 'iris.pkl')`",
)
@pytest.mark.shows(
    "Scripts that run unmodified",
    "Azure ML v1/v2: conda files",
    "`numpy=`, `scikit-learn=` as conda packages; `azureml-inference-server-http`, `inference-schema` under `pip:`",
)
def test_stacked_decorators(argosy: Argosy, iris: Path, tmp_path: Path, real: bool, ran_with: RanWith) -> None:
    """A registered folder keeps its name; the decorators, installed or the replica's own, make the schema."""
    name = "decorated" if real else "own-decorators"
    conda = OF_TODAY if real else None
    argosy.ok("service", "create", name, "-m", iris, *files(tmp_path, SCRIPT_DECORATED, conda))
    packages = argosy.json("manifest", "show", name)["recipe"]["lock"]["packages"]
    ran_with(argosy.versions(name, "scikit-learn", "numpy", "pandas", "inference-schema"))
    assert ("inference-schema" in packages) is real and "azureml-inference-server-http" not in packages
    row = list(OTHER.values())
    body = {"data": [FLOWER], "more": [row], "Inputs": {"data": [row, row]}}
    reply = score(argosy, name, body)
    assert reply.status == 200, reply.content
    home = "inference_schema.schema_decorators" if real else "argosy_serving.azure.decorators"
    assert reply.json == {"prediction": [0, 2, 2, 2], "by": home, "dtype": "float64"}
    columns = {"data": {column: {"0": value} for column, value in FLOWER.items()}}
    assert score(argosy, name, {**body, **columns}).json["prediction"] == [0, 2, 2, 2]
    assert len(score(argosy, name, {**body, "method": "predict_proba"}).json["prediction"][0]) == 3
    for change, pointer in (
        ({"more": [[1, 2, 3]]}, "/more/0"),
        ({"data": [{"sepal length": "x"}]}, "/data/0/sepal width"),
        ({"Inputs": []}, "/Inputs"),
    ):
        refused = score(argosy, name, {**body, **change})
        assert (refused.status, refused.error["details"]["pointer"]) == (400, pointer)
    url = argosy.json("service", "show", name)["scoring_url"].removesuffix("score") + "swagger.json"
    served = call(url, token=argosy.key(name)).json["definitions"]
    assert set(served["ServiceInput"]["properties"]) == {"data", "more", "Inputs", "method"}
    assert "method" not in served["ServiceInput"]["required"]
    assert served["ServiceInput"]["example"]["data"] == [FLOWER]
    assert served["ServiceOutput"]["type"] == "array"


@pytest.mark.shows(
    "Scripts that run unmodified",
    "Azure ML v1/v2: a registered file lies directly in `AZUREML_MODEL_DIR`",
    "`os.path.join(os.environ['AZUREML_MODEL_DIR'], 'iris.pkl')`",
)
@pytest.mark.shows(
    "Scripts that run unmodified",
    "Bodies of Azure ML's and MLflow's servers",
    '`{column: {"0": v}}`, `input_data`, `dataframe_split`, `dataframe_records`, `inputs`, `instances`',
)
def test_a_registered_file_and_the_bodies_of_mlflow(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    script = (
        "import os, joblib, pandas as pd\n"
        "from inference_schema.schema_decorators import input_schema\n"
        "from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType\n"
        f"sample = pd.DataFrame([{FLOWER!r}])\n"
        "def init():\n"
        "    global model\n"
        "    model = joblib.load(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'iris.pkl'))\n"
        "@input_schema(param_name='flowers', param_type=PandasParameterType(sample))\n"
        "def run(flowers):\n"
        "    return model.predict(flowers.to_numpy()).tolist()\n"
    )
    argosy.ok("service", "create", "bodies", "-m", iris / "iris.pkl", *files(tmp_path, script))
    rows = [list(OTHER.values()), list(FLOWER.values())]
    split = {"columns": NAMES, "index": [0, 1], "data": rows}
    for body in (
        {"flowers": [OTHER, FLOWER]},
        {"flowers": {name: {"0": OTHER[name], "1": FLOWER[name]} for name in NAMES}},
        {"input_data": split},
        {"dataframe_split": split},
        {"dataframe_records": [OTHER, FLOWER]},
        {"inputs": [OTHER, FLOWER]},
        {"instances": rows},
    ):
        assert score(argosy, "bodies", body).json == [2, 0], body


SCRIPT_OWN_TYPE = """
import os, joblib
from inference_schema.schema_decorators import input_schema
from inference_schema.parameter_types.abstract_parameter_type import AbstractParameterType

class Flower(AbstractParameterType):
    def __init__(self):
        super().__init__(None)

    def deserialize_input(self, input_data):
        if input_data.get('kind') == 'crash':
            raise RuntimeError('no such flower')
        return [float(input_data['sepals'][n]) for n in (0, 1)] + [float(v) for v in input_data['petals'].split('x')]

    def input_to_swagger(self):
        return {'type': 'object', 'example': {'sepals': [5.1, 3.5], 'petals': '1.4x0.2'}}

def init():
    global model
    model = joblib.load(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'iris.pkl'))

@input_schema('flower', Flower())
def run(flower):
    if flower[0] < 0:
        raise ValueError('the script itself')
    return int(model.predict([flower])[0])
"""


@pytest.mark.shows(
    "Scripts that run unmodified",
    "Azure ML v1/v2: a parameter type of the script's own",
    "`class Flower(AbstractParameterType)`; what `deserialize_input` refuses is a 400 with `/flower`",
)
@pytest.mark.parametrize("real", [True, False], ids=["the real inference-schema", "without it"])
def test_a_parameter_type_of_the_scripts_own(argosy: Argosy, iris: Path, tmp_path: Path, real: bool) -> None:
    name = "own-type" if real else "own-type-bare"
    conda = OF_TODAY if real else None
    argosy.ok("service", "create", name, "-m", iris / "iris.pkl", *files(tmp_path, SCRIPT_OWN_TYPE, conda))
    good = {"sepals": [6.7, 3.0], "petals": "5.2x2.3"}
    assert score(argosy, name, {"flower": good}).json == 2
    for wrong, said in (
        ({**good, "petals": "5.2xx"}, "could not convert"),
        ({"sepals": [1, 2]}, "petals"),
        ({**good, "sepals": [1]}, "out of range"),
        ({**good, "sepals": None}, "NoneType"),
    ):
        refused = score(argosy, name, {"flower": wrong})
        assert (refused.status, refused.error["details"]["pointer"]) == (400, "/flower")
        assert "Flower" in refused.error["details"]["expected"] and said in refused.error["details"]["received"]
    broken = score(argosy, name, {"flower": {**good, "sepals": [-1, 1]}})
    assert (broken.status, broken.error["code"]) == (500, "scoring_failed"), "what `run` itself raises stays an error"


def test_an_example_that_is_no_request_needs_a_sample(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    script = SCRIPT_OWN_TYPE.replace("'petals': '1.4x0.2'", "'petals': 'two sizes'")
    made = ("manifest", "create", "-n", "told", "-m", iris / "iris.pkl", *files(tmp_path, script))
    assert "answered the example of run()'s decorators" in argosy.ok(*made).err
    failed = argosy("manifest", "test", "told")
    assert failed.code == 1
    assert "The example of run()'s decorators (give another with --sample): /flower: expected" in failed.out
    (tmp_path / "sample.json").write_text(json.dumps({"flower": {"sepals": [6.7, 3.0], "petals": "5.2x2.3"}}))
    argosy.ok(*made, "--sample", tmp_path / "sample.json")
    assert argosy.json("manifest", "test", "told")["answers"][0]["output"] == 2


SCRIPT_RAW = """
import io
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from PIL import Image

def init():
    print('This is init()')

@rawhttp
def run(request):
    if request.method == 'GET':
        return AMLResponse(str.encode(request.full_path), 200)
    if request.method == 'POST':
        file_bytes = request.files['image']
        image = Image.open(file_bytes).convert('RGB')
        out = io.BytesIO()
        image.transpose(Image.FLIP_LEFT_RIGHT).save(out, format='PNG')
        return AMLResponse(out.getvalue(), 200, {'Content-Type': 'image/png'})
    return AMLResponse('bad request', 500)
"""


def png(*pixels: bytes) -> bytes:
    """One row of RGB pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(pixels), 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + b"".join(pixels)))
        + chunk(b"IEND", b"")
    )


def pixels_of(picture: bytes) -> list[bytes]:
    """The pixels of such a picture; of PNG's filters, those that one row can have."""
    start = picture.index(b"IDAT")
    (size,) = struct.unpack(">I", picture[start - 4 : start])
    line = bytearray(zlib.decompress(picture[start + 4 : start + 4 + size]))
    kind = line.pop(0)
    assert kind in (0, 1, 2), "none, left, or up"
    for place in range(3, len(line) if kind == 1 else 0):
        line[place] = (line[place] + line[place - 3]) % 256
    return [bytes(line[place : place + 3]) for place in range(0, len(line), 3)]


@pytest.mark.shows(
    "Scripts that run unmodified",
    "Azure ML v1/v2: `@rawhttp`",
    "`AMLRequest.files['image']` of a multipart form, `AMLResponse` with image bytes",
)
def test_a_picture_in_and_a_picture_out(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    """Raw HTTP: a form with a file, answered by the bytes of another."""
    conda = "dependencies:\n  - pillow\n  - pip:\n    - azureml-contrib-services\n    - azureml-defaults==1.60.0\n"
    argosy.ok("service", "create", "pictures", "-m", iris / "iris.pkl", *files(tmp_path, SCRIPT_RAW, conda))
    red, blue = b"\xff\x00\x00", b"\x00\x00\xff"
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    form = head + png(red, blue) + b"\r\n--x--\r\n"
    reply = score(argosy, "pictures", form, **{"content-type": "multipart/form-data; boundary=x"})
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert pixels_of(reply.content) == [blue, red]
    url = argosy.json("service", "show", "pictures")["scoring_url"]
    get = call(f"{url}?a=1", token=argosy.key("pictures"))
    assert (get.status, get.content) == (200, b"/score?a=1")
    broken = score(argosy, "pictures", form[:-9], **{"content-type": "multipart/form-data; boundary=x"})
    assert (broken.status, broken.error["code"]) == (400, "invalid_input")


@pytest.mark.shows(
    "Scripts that run unmodified",
    "Generators",
    "`async def run` that yields: server-sent events, or a line of JSON each",
)
def test_an_answer_in_events_comes_through_the_gateway(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    script = (
        "import joblib, json\n"
        "def init():\n"
        "    global model\n"
        "    model = joblib.load('iris.pkl')\n"
        "async def run(body):\n"
        "    for row in json.loads(body)['rows']:\n"
        "        yield {'flower': int(model.predict([row])[0])}\n"
    )
    argosy.ok("service", "create", "events", "-m", iris / "iris.pkl", *files(tmp_path, script))
    body = {"rows": [list(OTHER.values()), list(FLOWER.values())]}
    reply = score(argosy, "events", body, accept="text/event-stream")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    assert reply.content == b'data: {"flower":2}\n\ndata: {"flower":0}\n\n'
    lines = score(argosy, "events", body)
    assert [json.loads(line) for line in lines.content.splitlines()] == [{"flower": 2}, {"flower": 0}]
