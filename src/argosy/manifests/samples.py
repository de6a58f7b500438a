"""Sample requests: a replica is ready only after it answered them.

A samples file is JSON. An object is one request body. A list holds samples, each
`{"input": <request body>, "output": <recorded answer>, "tolerance": {"relative": r, "absolute": a}}` with `output` and
`tolerance` optional; without `output` any answer with status 200 will do.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from argosy.errors import InvalidFile, InvalidSchema
from argosy_serving.schema import InvalidInput, InvalidSchemaFile, Schema, parse_schema, sample_from_schema

LARGEST_FILE_BYTES = 20_000_000
_KEYS = frozenset({"input", "output", "tolerance"})
_TOLERANCES = frozenset({"relative", "absolute"})


def read_schema(document: Any) -> Schema:
    """The schema of a file's JSON. Raises InvalidSchema with a JSON pointer."""
    try:
        return parse_schema(document)
    except InvalidSchemaFile as problem:
        raise InvalidSchema(problem.pointer, problem.problem) from problem
    except RecursionError as problem:
        raise InvalidSchema("", "it is nested too deeply") from problem


def inferred_samples(schema: Schema) -> list[dict[str, Any]]:
    """One sample: the examples of the schema's inputs, or values made up from their types."""
    return [{"input": sample_from_schema(schema)}]


def parse_samples(content: bytes, file: str, schema: Schema | None = None) -> list[dict[str, Any]]:
    """The samples of a file. Raises InvalidFile with the place of the first thing that is wrong."""
    document = _read(content, file)
    if isinstance(document, Mapping):
        document = [{"input": document}]
    if not isinstance(document, list) or not document:
        raise InvalidFile(
            file, 'it must hold one request body (a JSON object) or a list of {"input": ..., "output": ...}.'
        )
    return check_samples(document, file, schema)


def check_samples(samples: Any, where: str, schema: Schema | None = None) -> list[dict[str, Any]]:
    """The same for samples that are decoded already, such as those of a request. `where` is named in messages."""
    if not isinstance(samples, list):
        raise InvalidFile(where, 'samples are a list of {"input": ..., "output": ...}.')
    for number, sample in enumerate(samples):
        if not isinstance(sample, Mapping) or "input" not in sample or not set(sample) <= _KEYS:
            raise InvalidFile(
                where,
                f'sample {number + 1} of {len(samples)} must be an object with "input", and nothing but "output" and '
                '"tolerance" beside it. To give one request body, write it as an object without a list around it.',
            )
        _check_numbers(sample, where, number)
        _check_tolerance(sample.get("tolerance"), where, number)
        _check_input(sample["input"], where, number, schema)
    return [dict(sample) for sample in samples]


def _read(content: bytes, file: str) -> Any:
    if len(content) > LARGEST_FILE_BYTES:
        raise InvalidFile(file, f"a samples file of more than {LARGEST_FILE_BYTES:,} bytes is not read.")
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as problem:
        raise InvalidFile(file, f"byte {problem.start} is not UTF-8 text. Save the file as UTF-8.") from problem
    except json.JSONDecodeError as problem:
        raise InvalidFile(
            file, f"line {problem.lineno}, column {problem.colno} is no JSON ({problem.msg})."
        ) from problem
    except RecursionError as problem:
        raise InvalidFile(file, "it is nested too deeply.") from problem
    except ValueError as problem:
        raise InvalidFile(file, f"it is no JSON: {problem}.") from problem


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON; write null")


def _check_numbers(sample: Mapping[str, Any], where: str, number: int) -> None:
    """NaN and infinity are no JSON, though Python reads them; nothing that holds one has a digest."""
    try:
        json.dumps(sample, allow_nan=False)
    except ValueError:
        problem = f"sample {number + 1} has NaN or infinity, which JSON cannot say; write null."
        raise InvalidFile(where, problem) from None


def _check_tolerance(tolerance: Any, where: str, number: int) -> None:
    if tolerance is None:
        return
    usable = isinstance(tolerance, Mapping) and set(tolerance) <= _TOLERANCES
    if not usable or not all(_is_amount(value) for value in tolerance.values()):
        raise InvalidFile(
            where, f'"tolerance" of sample {number + 1} must be like {{"relative": 1e-6, "absolute": 1e-6}}.'
        )


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _check_input(body: Any, where: str, number: int, schema: Schema | None) -> None:
    """Names always; values where that needs no numpy or pandas, which the control plane need not have."""
    if schema is None:
        return
    if not isinstance(body, Mapping):
        raise InvalidFile(where, f"the input of sample {number + 1} must be an object with {', '.join(schema.inputs)}.")
    missing = [name for name, each in schema.inputs.items() if each.required and name not in body]
    unknown = [str(name) for name in body if name not in schema.inputs]
    if missing or unknown:
        problems = [
            *([f"lacks {', '.join(missing)}"] if missing else []),
            *([f"has {', '.join(unknown)}, which the schema does not know"] if unknown else []),
        ]
        raise InvalidFile(where, f"the input of sample {number + 1} {' and '.join(problems)}.")
    if schema.types <= {"standard"}:
        try:
            schema.decode(dict(body))
        except InvalidInput as problem:
            raise InvalidFile(
                where, f"the input of sample {number + 1} does not fit the schema: {problem}"
            ) from problem
