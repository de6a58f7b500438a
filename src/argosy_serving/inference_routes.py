"""The paths of the Open Inference Protocol, version 2, with and without the service's prefix.

The one model of a service answers to the service's name, with its revision as the version, and to the names of the
models in its image, with theirs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from argosy_serving import __version__, inference
from argosy_serving.bodies import Exchange, Installed
from argosy_serving.compression import encoding_of
from argosy_serving.messages import Answer, Request
from argosy_serving.schema import Schema
from argosy_serving.spec import Image, Spec

Handler = Callable[[Request], "Answer | None"]
Choose = Callable[[Mapping[bytes, bytes], int], Exchange]

EXTENSIONS = ["binary_tensor_data"]


class Inference:
    """`score` scores a request whose exchange is chosen by the second argument; `readers` guards metadata with a key;
    `check_ready` raises a Refusal; `schema` is asked for each time, for it is known only once the script is loaded."""

    def __init__(
        self,
        spec: Spec,
        image: Image,
        schema: "Callable[[], Schema | None]",
        check_ready: Callable[[], None],
        answer: Callable[[bytes, Request], Answer],
        readers: "Callable[[Callable[[Request], Answer]], Handler]",
        score: "Callable[[Request, Choose], None]",
        forms: Installed,
    ) -> None:
        self._schema, self._check_ready = schema, check_ready
        self._answer, self._readers, self._score, self._forms = answer, readers, score, forms
        self._versions = {spec.service: [str(spec.revision)], **{m.name: [str(m.version)] for m in image.models}}

    def routes(self, prefix: str) -> "dict[str, tuple[str, Handler]]":
        base = f"{prefix}/v2"
        server = {"name": "argosy", "version": __version__, "extensions": EXTENSIONS}
        made: dict[str, tuple[str, Handler]] = {
            base: ("GET", self._readers(lambda request: self._answer(orjson.dumps(server), request))),
            f"{base}/health/live": ("GET", self._live),
            f"{base}/health/ready": ("GET", self._when_ready({"ready": True})),
        }
        for name, versions in self._versions.items():
            model = f"{base}/models/{name}"
            for path, version in [(model, versions[-1]), *((f"{model}/versions/{v}", v) for v in versions)]:
                made[path] = ("GET", self._metadata(name, versions))
                made[f"{path}/ready"] = ("GET", self._when_ready({"name": name, "ready": True}))
                made[f"{path}/infer"] = ("POST", self._infer(name, version))
        return made

    def _live(self, request: Request) -> Answer:
        return self._answer(b'{"live":true}', request)

    def _when_ready(self, document: "dict[str, Any]") -> Handler:
        body = orjson.dumps(document)

        def handler(request: Request) -> Answer:
            self._check_ready()
            return self._answer(body, request)

        return handler

    def _metadata(self, name: str, versions: "list[str]") -> Handler:
        return self._readers(
            lambda request: self._answer(orjson.dumps(inference.metadata(self._schema(), name, versions)), request)
        )

    def _infer(self, name: str, version: str) -> Handler:
        def choose(headers: Mapping[bytes, bytes], limit_bytes: int) -> Exchange:
            one = inference.inference(self._schema(), name, version, headers, self._forms)
            return Exchange(encoding_of(headers), limit_bytes, one.read, one.write, whole=True)

        def handler(request: Request) -> None:
            self._score(request, choose)

        return handler
