"""Schema files: what a service takes and answers, as plain JSON.

Reading one needs only the standard library and orjson; numpy and pandas are imported when an input needs them.
"""

from argosy_serving.schema.generate import DataTypes, SampleDefinition, generate_schema
from argosy_serving.schema.parse import Field, Schema, parse_schema, sample_from_schema
from argosy_serving.schema.problems import InvalidInput, InvalidSchemaFile

__all__ = [
    "DataTypes",
    "Field",
    "InvalidInput",
    "InvalidSchemaFile",
    "SampleDefinition",
    "Schema",
    "generate_schema",
    "parse_schema",
    "sample_from_schema",
]
