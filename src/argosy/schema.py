"""`from argosy.schema import generate_schema`. The code lives in `argosy_serving`, which replicas carry."""

from argosy_serving.schema import (
    DataTypes,
    Field,
    InvalidInput,
    InvalidSchemaFile,
    SampleDefinition,
    Schema,
    generate_schema,
    parse_schema,
    sample_from_schema,
)

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
