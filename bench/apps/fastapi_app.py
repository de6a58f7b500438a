"""FastAPI as people write it: a pydantic model of the body, a plain `def`."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

import work


class Body(BaseModel):
    x: list[list[float]]


app = FastAPI()
decode, predict = work.decoder(), work.predictor()


@app.post("/predict")
def score(body: Body) -> Any:
    return work.plain(predict(decode(body.x)))


@app.get("/health")
def health() -> str:
    return "ok"
