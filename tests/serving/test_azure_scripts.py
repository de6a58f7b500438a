"""Scripts written for Azure ML's servers, against a real replica that has none of those packages."""

import base64
import json
import pickle
from collections.abc import Callable
from typing import Any

ROWS = [{"sepal length": 3.0, "sepal width": 3.6}, {"sepal length": 1, "sepal width": 0.5}]
KEPT = {
    "input": {
        "input_df": {
            "swagger": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "sepal length": {"type": "number", "format": "double"},
                        "sepal width": {"type": "number", "format": "double"},
                    },
                },
                "example": ROWS[:1],
            },
            "type": 3,
        }
    }
}
OF_2017 = """
from azureml.api.schema.dataTypes import DataTypes
from azureml.api.schema.sampleDefinition import SampleDefinition
from azureml.api.realtime.services import generate_schema
from azureml.datacollector import ModelDataCollector
import pandas as pd

def init():
    global model, inputs_dc, prediction_dc
    model = float(open('model.pkl').read())
    inputs_dc = ModelDataCollector('model.pkl', identifier='inputs')
    prediction_dc = ModelDataCollector('model.pkl', identifier='prediction', feature_names=['p'])

def run(input_df):
    import json
    before = list(input_df.columns)
    inputs_dc.collect(input_df)
    inputs_dc.collect(input_df, 'twice')
    pred = [model * x for x in input_df['sepal length']]
    prediction_dc.collect(pred[:1], user_correlation_id='c,1')
    prediction_dc.collect(pred + pred)
    prediction_dc.collect({'no': 'rows'})
    assert list(input_df.columns) == before
    return json.dumps(str(pred))

def main():
    df = pd.DataFrame([[3.0, 3.6]], columns=['sepal length', 'sepal width'])
    inputs = {'input_df': SampleDefinition(DataTypes.PANDAS, df)}
    return generate_schema(run_func=run, inputs=inputs, filepath='service_schema.json')

assert main()['input']['input_df']['type'] == 'pandas'
"""


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> "tuple[Any, ...]":
        return open, (self.place, "w")


def metric(replica: Any, name: str) -> float:
    lines = replica.get("/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"argosy_{name}{{")).rpartition(" ")[2])


def test_a_script_of_2017(replica: Any) -> None:
    """The collector neither changes the caller's frame nor raises, and without a sink rows are counted."""
    replica.write_image(OF_2017, KEPT, models={"iris": {"model.pkl": b"2.0"}})
    replica.start()
    reply = replica.score({"input_df": ROWS}, {"x-request-id": "r1"})
    assert (reply.status, reply.body) == (200, b'"\\"[6.0, 2.0]\\""')
    assert metric(replica, "collected_rows_dropped_total") == 5, "two frames of two rows, one row of predictions"
    assert metric(replica, "collected_rows_total") == 0
    warnings = [e["message"] for e in replica.log() if "nothing was collected" in e["message"]]
    assert len(warnings) == 2 and "not dict" in warnings[1] and "4 values" in warnings[0]
    assert not any("$CorrelationId" in e["message"] for e in replica.log())


def test_collected_rows_are_printed_in_debug_mode(replica: Any) -> None:
    script = f"import os\nos.environ['AML_MODEL_DC_DEBUG'] = 'true'\n{OF_2017}"
    replica.write_image(script, KEPT, models={"iris": {"model.pkl": b"2.0"}})
    replica.start()
    assert replica.score({"input_df": ROWS}, {"x-request-id": "r1"}).status == 200
    printed = [e["message"] for e in replica.log() if e["logger"] == "stdout" and e["request_id"] == "r1"]
    assert printed[0] == "$Timestamp,$CorrelationId,$RequestId,sepal length,sepal width"
    assert printed[1].endswith(",,r1,3.0,3.6") and printed[4].endswith(",twice,r1,3.0,3.6")
    assert printed[6] == "$Timestamp,$CorrelationId,$RequestId,p"
    assert printed[7].endswith(',"c,1",r1,6.0')


def test_the_pickled_part_of_a_2017_schema_is_never_loaded(replica: Any) -> None:
    marker = replica.folder / "marker"
    pickled = pickle.dumps(Bomb(str(marker)))
    schema = json.loads(json.dumps(KEPT))
    schema["input"]["input_df"]["internal"] = base64.b64encode(pickled).decode()
    replica.write_image("def run(input_df): return len(input_df)", schema, [{"input": {"input_df": ROWS}}])
    replica.start()
    assert replica.score({"input_df": ROWS}).json == 2
    assert replica.score({"input_df": [{"sepal length": 1}]}).status == 400
    assert replica.get("/swagger.json", {"authorization": "Bearer the-primary-key"}).status == 200
    assert not marker.exists()
    pickle.loads(pickled).close()
    assert marker.exists(), "loading it would have written the marker"


DECORATED = """
import datetime
import numpy as np
import pandas as pd
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.abstract_parameter_type import AbstractParameterType
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

class Doubled(AbstractParameterType):
    def deserialize_input(self, input_data): return input_data * 2
    def input_to_swagger(self): return {'type': 'integer', 'example': 1}

frame = pd.DataFrame({'n': [1, 2], 'name': ['a', 'b']})
nested = StandardPythonParameterType({'data': NumpyParameterType(np.array([[1.0, 2.0]])), 'method': 'predict'})

@input_schema('data', NumpyParameterType(np.array([[1.0, 2.0]])))
@input_schema('frame', PandasParameterType(frame))
@input_schema('nested', nested)
@input_schema('loose', NumpyParameterType(np.array([1, 2]), enforce_shape=False))
@input_schema('own', Doubled('sample'))
@input_schema(param_name='scale', param_type=StandardPythonParameterType(1.5))
@input_schema('raw', NumpyParameterType(np.array([1])), convert_to_provided_type=False)
@input_schema('day', StandardPythonParameterType(datetime.date(2024, 1, 1)), optional=True)
@output_schema(StandardPythonParameterType({'answer': [1.0]}))
def run(data, frame, nested, loose, own, scale, raw, day=None):
    return {
        'data': [type(data).__name__, str(data.dtype), data],
        'frame': [type(frame).__name__, str(frame.n.dtype), frame],
        'nested': [type(nested['data']).__name__, nested['method']], 'loose': loose.ndim, 'own': own, 'scale': scale,
        'raw': type(raw).__name__, 'day': day,
    }

def init():
    global direct
    direct = run([[3, 4]], [{'n': 1, 'name': 'x'}], {'data': [[1, 2]], 'method': 'm'}, [[1]], 2, 1, [1])
    assert direct['data'][0] == 'ndarray' and direct['frame'][0] == 'DataFrame' and direct['own'] == 4
"""


def test_decorators_make_the_schema(replica: Any) -> None:
    replica.write_image(DECORATED)
    replica.start()
    body = {
        "data": [[1, 2]], "frame": [{"name": "x", "n": 3}], "nested": {"data": [[5, 6]], "method": "m"},
        "loose": [[[1]]], "own": 4, "scale": 2, "raw": [1, 2],
    }  # fmt: skip
    answer = {
        "data": ["ndarray", "float64", [[1.0, 2.0]]], "frame": ["DataFrame", "int64", [{"n": 3, "name": "x"}]],
        "nested": ["ndarray", "m"], "loose": 3, "own": 8, "scale": 2, "raw": "list", "day": None,
    }  # fmt: skip
    assert replica.score(body).json == answer
    assert replica.score({**body, "day": "2024-05-31"}).json["day"] == "2024-05-31"
    for change, pointer in (
        ({"data": [[1, 2, 3]]}, "/data/0"),
        ({"frame": [{"n": 1.5, "name": "x"}]}, "/frame/0/n"),
        ({"nested": {"data": "no"}}, "/nested"),
        ({"loose": {"a": 1}}, "/loose"),
        ({"scale": "2"}, "/scale"),
        ({"day": "soon"}, "/day"),
        ({"other": 1}, "/other"),
    ):
        reply = replica.score({**body, **change})
        assert (reply.status, reply.error["details"]["pointer"]) == (400, pointer), change
    assert replica.score({k: v for k, v in body.items() if k != "own"}).error["details"]["pointer"] == "/own"
    key = {"authorization": "Bearer the-primary-key"}
    served = replica.get("/swagger.json", key).json["definitions"]["ServiceInput"]
    assert served["properties"]["data"]["items"]["items"] == {"type": "number", "format": "double"}
    assert served["properties"]["nested"]["properties"]["data"]["type"] == "array"
    assert served["example"]["frame"] == [{"n": 1, "name": "a"}, {"n": 2, "name": "b"}]
    assert sorted(served["required"]) == sorted(body), "day may be left out"
    output = replica.get("/openapi.json", key).json["components"]["schemas"]["ServiceOutput"]
    assert output["properties"]["answer"]["type"] == "array"


def test_decorators_on_async_functions_and_with_request_headers(replica: Any) -> None:
    replica.write_image(
        "import numpy as np\nfrom inference_schema.schema_decorators import input_schema\n"
        "from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType\n"
        "@input_schema('data', NumpyParameterType(np.array([1])))\n"
        "async def run(data, request_headers): return [int(data.sum()), request_headers.get('x-a')]"
    )
    replica.start()
    assert replica.score({"data": [1, 2]}, {"x-a": "b"}).json == [3, "b"]
    assert replica.score({"data": [1.5]}).error["details"]["pointer"] == "/data/0"


def test_a_schema_file_goes_before_decorators(replica: Any) -> None:
    replica.write_image(
        "import numpy as np\nfrom inference_schema.schema_decorators import input_schema\n"
        "from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType\n"
        "@input_schema('data', NumpyParameterType(np.array([1])))\ndef run(data): return data.tolist()",
        {"input": {"data": {"type": "numpy", "dtype": "float64", "shape": [None, 2]}}},
    )
    replica.start()
    assert replica.score({"data": [[1, 2.5]]}).json == [[1.0, 2.5]]


NUMBERS = (
    "import numpy as np\nfrom inference_schema.schema_decorators import input_schema\n"
    "from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType\n"
    "from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType\n"
    "@input_schema('data', NumpyParameterType(np.array([4, 5])))\n"
    "@input_schema('names', StandardPythonParameterType({'a': NumpyParameterType(np.array([1.5]))}))\n"
)


def test_the_examples_of_decorators_are_answered_before_ready(make_replica: Callable[[], Any]) -> None:
    replica = make_replica()
    replica.write_image(NUMBERS + "def run(data, names): print('got', data.tolist(), names['a'].tolist())")
    replica.start()
    assert any(line["message"] == "got [4, 5] [1.5]" for line in replica.log())
    broken, given, kept = make_replica(), make_replica(), make_replica()
    broken.write_image(NUMBERS + "def run(data, names): return data[2]")
    broken.launch()
    assert broken.wait() == 3
    assert broken.failure()["code"] == "sample_failed"
    assert "example of run()'s decorators (give another with --sample): IndexError" in broken.failure()["reason"]
    sample = {"input": {"data": [1, 2, 3], "names": {"a": [1]}}}
    given.write_image(NUMBERS + "def run(data, names): return data[2]", samples=[sample])
    given.start()
    kept.write_image(NUMBERS + "def run(data, names, more): return data[2]")
    kept.start()
    assert any("There are no samples" in line["message"] for line in kept.log()), "`more` has no example"


def test_wrong_decorators_are_told_at_the_start(make_replica: Callable[[], Any]) -> None:
    head = (
        "from inference_schema.schema_decorators import input_schema\n"
        "from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType\n"
        "from azureml.contrib.services.aml_request import rawhttp\n"
    )
    for script, told in (
        ("@input_schema('other', StandardPythonParameterType(1))\ndef run(data): pass", "has no parameter 'other'"),
        ("@input_schema('data', 1.5)\ndef run(data): pass", "A parameter type such as NumpyParameterType"),
        ("@rawhttp\n@input_schema('data', StandardPythonParameterType(1))\ndef run(data): pass", "both @rawhttp and"),
        ("@rawhttp\ndef run(): pass", "no parameter for the request"),
    ):
        replica = make_replica()
        replica.write_image(head + script)
        replica.launch()
        assert replica.wait() == 3
        assert told in replica.failure()["reason"], script


def test_an_installed_package_goes_before_the_stand_ins(replica: Any) -> None:
    """Module by module: what the real `azureml` lacks still comes from the replica."""
    replica.write_image(
        "import azureml.api.schema.dataTypes as real\nfrom azureml.datacollector import ModelDataCollector\n"
        "import azureml, importlib.util\n"
        "def run(body): return [real.DataTypes, ModelDataCollector.__module__, azureml.MARK,\n"
        "  importlib.util.find_spec('azureml.core.run') is None]"
    )
    package = replica.folder / "image" / "code" / "azureml"
    (package / "api" / "schema").mkdir(parents=True)
    for folder, text in ((package, "MARK = 'real'"), (package / "api", ""), (package / "api" / "schema", "")):
        (folder / "__init__.py").write_text(text)
    (package / "api" / "schema" / "dataTypes.py").write_text("DataTypes = 'real too'")
    replica.start()
    assert replica.score({}).json == ["real too", "argosy_serving.azure.collector", "real", True]


RAW = """
from {home}.aml_request import AMLRequest, rawhttp
from {home}.aml_response import AMLResponse

@rawhttp
def run(request):
    if request.method == 'GET':
        return AMLResponse(str.encode(request.full_path), 200)
    if request.args.get('plain'):
        return {{'kind': type(request).__name__, 'n': len(request.get_data()), 'json': request.get_json(silent=True)}}
    if request.args.get('bad'):
        return AMLResponse('bad request', 500)
    if request.args.get('json'):
        return AMLResponse({{'a': [1]}}, 201, {{'X-Own': 'yes'}}, json_str=True)
    if request.args.get('inject'):
        return AMLResponse('x', 200, {{'x-own': request.get_data(as_text=True)}})
    file = request.files['image']
    data = file.read()
    names = [file.filename, file.content_type, request.form['note'], str(len(request.files.getlist('image')))]
    return AMLResponse(data[::-1], 200, {{'Content-Type': 'image/png', 'x-names': '|'.join(names)}})
"""


def multipart(*parts: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    body = b"".join(b"--xYzZY\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return body + b"--xYzZY--\r\n", {"content-type": 'multipart/form-data; boundary="xYzZY"'}


def test_raw_http(make_replica: Callable[[], Any]) -> None:
    """A multipart upload in, the bytes of an image out; both homes of the names."""
    image = bytes(range(256)) * 40 + b"\r\n--xYz\r\n"
    for home in ("azureml.contrib.services", "azureml_inference_server_http.api"):
        replica = make_replica()
        replica.write_image(RAW.format(home=home))
        replica.start()
        body, headers = multipart(
            ('Content-Disposition: form-data; name="note"', b"n\xc3\xa9"),
            ('Content-Disposition: form-data; name="image"; filename="a b.png"\r\nContent-Type: image/png', image),
            ('content-disposition: form-data; name=image; filename="2"', b""),
        )
        reply = replica.score(body, headers)
        assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
        assert reply.body == image[::-1]
        assert reply.headers["x-names"] == "a b.png|image/png|n\xe9|2"
        assert reply.headers["x-ms-run-function-failed"] == "False"
        get = replica.get("/score?a=1&b=%20", {"authorization": "Bearer the-primary-key"})
        assert (get.status, get.body) == (200, b"/score?a=1&b=%20")
        assert replica.get("/score").status == 401
        plain = replica.score(b"\xff\xfe", {"content-type": "application/octet-stream"}, "/score?plain=1")
        assert plain.json == {"kind": "AMLRequest", "n": 2, "json": None}
        assert replica.score(b"", url="/score?bad=1").status == 500
        made = replica.score(b"", url="/score?json=1")
        assert (made.status, made.json, made.headers["x-own"]) == (201, {"a": [1]}, "yes")
        assert made.headers["content-type"] == "application/json"
        injected = replica.score(b"a\r\nx-evil: 1", url="/score?inject=1")
        assert injected.status == 500 and "x-evil" not in injected.headers
        for broken in (body[:-20], b"nothing", b"--xYzZY\r\nno head", b"--xYzZY" * 3, b"--xYzZY\r\n\r\n--xYzZY--"):
            assert replica.score(broken, headers).status == 400, broken[:30]
        assert replica.score(body, {"content-type": "multipart/form-data"}).status == 400
        replica.stop()


def test_models_lie_where_azure_puts_them(replica: Any) -> None:
    """A registered folder keeps its own name, a file lies directly in the directory."""
    replica.write_image(
        "import os\ndef run(body):\n  root = os.environ['AZUREML_MODEL_DIR']\n"
        "  return sorted(os.path.relpath(os.path.join(d, f), root) for d, _, fs in os.walk(root) for f in fs)"
    )
    place = replica.folder / "image" / "models" / "iris" / "1" / "models" / "deep"
    place.mkdir(parents=True)
    (place / "m.pkl").touch()
    document = json.loads((replica.folder / "image" / "image.json").read_text())
    document["models"] = [{"name": "iris", "version": 1, "kind": "directory", "files": ["models/deep/m.pkl"]}]
    (replica.folder / "image" / "image.json").write_text(json.dumps(document))
    replica.start()
    assert replica.score({}).json == ["models/deep/m.pkl"]


def test_the_path_of_a_model(replica: Any) -> None:
    replica.write_image(
        "from azureml.core.model import Model\nimport azureml.core\nassert azureml.core.Model is Model\n"
        "def run(body):\n  name, _, version = body.partition(':')\n"
        "  try: return open(Model.get_model_path(name, int(version) if version else None)).read()\n"
        "  except OSError as problem: return str(problem)",
        models={"iris": {"model.pkl": b"weights"}, "other": {"a": b"", "b": b""}},
    )
    replica.start()
    assert replica.score(b"iris").json == replica.score(b"iris:1").json == "weights"
    assert "Is a directory" in replica.score(b"other").json
    for missing in (b"iris:2", b"nothing", b"../models", b"."):
        assert replica.score(missing).json.endswith("it has iris:1, other:1."), missing
