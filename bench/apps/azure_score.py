import json
from typing import Any

import work


def init() -> None:
    global decode, predict
    decode, predict = work.decoder(), work.predictor()


def run(raw_data: str) -> Any:
    return work.plain(predict(decode(json.loads(raw_data)["x"])))
