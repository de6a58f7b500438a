import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

import work


@serve.deployment(num_replicas=1)
class Model:
    def __init__(self) -> None:
        self._decode, self._predict = work.decoder(), work.predictor()

    async def __call__(self, request: Request) -> Any:
        body = await request.json()
        return work.plain(self._predict(self._decode(body["x"])))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[2], configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Model.bind())
    signal.pause()
