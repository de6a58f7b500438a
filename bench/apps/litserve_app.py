import sys
from typing import Any

import litserve

import work


class Api(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self._decode, self._predict = work.decoder(), work.predictor()

    def decode_request(self, request):  # an annotation would make it a parameter of the query
        return self._decode(request["x"])

    def predict(self, x: Any) -> Any:
        return self._predict(x)

    def encode_response(self, output: Any) -> Any:
        return {"output": work.plain(output)}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
