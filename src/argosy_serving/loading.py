"""From the image to a scorer that has answered its samples. Runs in the first slot's thread."""

import asyncio
import inspect
import logging

from argosy_serving.request_context import REQUEST_ID
from argosy_serving.samples import answer_samples
from argosy_serving.schema import InvalidSchemaFile, Schema, parse_schema
from argosy_serving.scoring import Scorer
from argosy_serving.scripts import LoadFailed, Script, explain, load_script
from argosy_serving.spec import Image

logger = logging.getLogger("argosy")


def load(image: Image) -> "tuple[Scorer, Schema | None, Script]":
    """Raises LoadFailed with the reason a person can act on; the traceback is in the log."""
    schema = _schema(image)
    script = load_script(image.code, image.script, schema)
    if script.init is not None:
        try:
            answer = script.init()
            if inspect.isawaitable(answer):
                asyncio.run(_finish(answer))
        except BaseException as problem:  # noqa: BLE001 - sys.exit in init() is a failure like any other
            raise LoadFailed("init_failed", explain(problem, image.code)) from problem
    scorer = Scorer(script, schema, image.raw_strings)
    if not image.samples:
        logger.warning("There are no samples: the replica is ready after init(), untested.")
    elif script.is_async:
        asyncio.run(_samples_on_a_loop(scorer, image, schema))
    else:
        answer_samples(scorer.score, image.samples, schema is not None, image.code)
    REQUEST_ID.set("")
    return scorer, schema, script


def _schema(image: Image) -> "Schema | None":
    if image.schema is None:
        return None
    try:
        schema = parse_schema(image.schema)
        schema.prepare()
        return schema
    except InvalidSchemaFile as problem:
        raise LoadFailed("script_error", str(problem)) from problem
    except ImportError as problem:
        raise LoadFailed(
            "script_error",
            f"The schema has inputs of type {', '.join(sorted(schema.types))}, but the environment has no "
            f"{problem.name}: add it to the manifest's dependencies.",
        ) from problem


async def _finish(answer: object) -> None:
    if inspect.isawaitable(answer):
        await answer
