"""The floor: a bare ASGI application that decodes, predicts and encodes, and owes nothing else."""

from typing import Any

import orjson

import work

decode, predict = work.decoder(), work.predictor()


async def app(scope: Any, receive: Any, send: Any) -> None:
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message["body"])
        more = message["more_body"]
    value = decode(orjson.loads(b"".join(chunks))["x"])
    result = orjson.dumps(predict(value), option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(result))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": result})
