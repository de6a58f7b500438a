"""From the image to a scorer that has answered its samples. Runs in the first slot's thread."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from argosy_serving.answers import encode_json
from argosy_serving.batching import Batcher
from argosy_serving.request_context import REQUEST_ID
from argosy_serving.samples import answer_samples
from argosy_serving.schema import InvalidSchemaFile, Schema, parse_schema, sample_from_schema
from argosy_serving.scoring import Scorer, Work
from argosy_serving.scripts import LoadFailed, Script, explain, load_script
from argosy_serving.spec import Image

logger = logging.getLogger("argosy")

OnLoop = Callable[["Coroutine[Any, Any, Any]"], Any]


@dataclass(frozen=True)
class Loaded:
    scorer: Scorer
    schema: "Schema | None"
    is_async: bool
    raw_http: bool
    batcher: "Batcher | None" = None


def load(image: Image, on_loop: OnLoop) -> Loaded:
    """Raises LoadFailed with a reason a person can act on.

    `on_loop` runs a coroutine on the server's loop and waits: what `async def run` opens belongs to that loop.
    """
    script = load_script(image.code, image.script, _schema(image))
    schema = script.schema
    if schema is not None:
        _prepare(schema)
    _init(script, image, on_loop)
    scorer = Scorer(script, schema, image.raw_strings)
    batcher = _batcher(script, scorer, image)
    samples, origin = image.samples or (), "Sample {}"
    if image.samples == () and image.schema is None and (example := _declared_example(schema)):
        samples, origin = ({"input": example},), "The example of run()'s decorators (give another with --sample)"
    if not samples and image.samples is not None:
        logger.warning("There are no samples: the replica is ready after init(), untested.")

    def score(work: Work) -> None:
        if script.is_async:
            on_loop(scorer.score_async(work))
            if work.items is not None:
                on_loop(scorer.gather_async(work))
        else:
            scorer.score(work)
            if work.items is not None:
                scorer.gather(work)

    answer_samples(score, samples, schema is not None, image.code, origin)
    if batcher is not None and (why := batcher.prove([encode_json(sample["input"]) for sample in samples])):
        raise _no_batches(image, why)
    REQUEST_ID.set("")
    return Loaded(scorer, schema, script.is_async, script.raw_http, batcher)


def _batcher(script: Script, scorer: Scorer, image: Image) -> "Batcher | None":
    if image.max_batch_size <= 1:
        return None
    if script.is_async or script.raw_http or script.wants_request or script.wants_request_headers:
        why = "run() is async" if script.is_async else "run() is told about one request"
    else:
        why = "there is no schema" if script.schema is None else script.schema.unbatchable()
    if why or script.schema is None:
        raise _no_batches(image, why)
    return Batcher(scorer, script.schema, image.max_batch_size, image.max_batch_delay_ms / 1000)


def _no_batches(image: Image, why: str) -> LoadFailed:
    return LoadFailed("script_error", f"max_batch_size is {image.max_batch_size}, but {why}: batches cannot be made.")


def _declared_example(schema: "Schema | None") -> "dict[str, Any]":
    """The request that the samples of the decorators make; empty when an input has none."""
    if schema is None or not all(each.has_example for each in schema.inputs.values() if each.required):
        return {}
    return dict(sample_from_schema(schema))


def _init(script: Script, image: Image, on_loop: OnLoop) -> None:
    if script.init is None:
        return
    try:
        answer = script.init()
        if inspect.iscoroutine(answer):
            if script.is_async:
                on_loop(answer)
            else:
                asyncio.run(answer)
    except BaseException as problem:
        raise LoadFailed("init_failed", explain(problem, image.code)) from problem


def _schema(image: Image) -> "Schema | None":
    if image.schema is None:
        return None
    try:
        return parse_schema(image.schema)
    except InvalidSchemaFile as problem:
        raise LoadFailed("script_error", str(problem)) from problem


def _prepare(schema: Schema) -> None:
    try:
        schema.prepare()
    except ImportError as problem:
        raise LoadFailed(
            "script_error",
            f"The schema has inputs of type {', '.join(sorted(schema.types))}, but the environment has no "
            f"{problem.name}: add it to the manifest's dependencies.",
        ) from problem
