"""Schema files: `from argosy.schema import generate_schema`. That code lives in `argosy_serving`, which replicas carry;
making schemas from samples and hints, and comparing them, is for people alone and lives here."""

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
