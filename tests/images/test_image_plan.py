"""The plan of an image: pure, the same for the same content on any machine."""

from dataclasses import replace

import pytest

from argosy.images.plan import ENTRYPOINT, ModelContent, Plan, image_json, plan
from argosy.records import FileEntry, Lock, Manifest, ModelPin, Recipe

FILES = [FileEntry("score.py", "a" * 64, 10), FileEntry("lib/help.py", "b" * 64, 5)]
PINS = [ModelPin("iris", 3, "c" * 64), ModelPin("extra", 1, "d" * 64)]
RECIPE = Recipe(
    PINS, "python:3.12", "score.py", FILES, Lock("3.12", "x\n", {"x": "1", "y": "2"}), samples=[{"input": 1}]
)
MANIFEST = Manifest("iris", 7, "f" * 64, RECIPE, "2026-01-01T00:00:00Z")
MODELS = [
    ModelContent(PINS[0], "file", [FileEntry("model.pkl", "1" * 64, 100)]),
    ModelContent(PINS[1], "directory", [FileEntry("extra/a", "2" * 64, 1), FileEntry("extra/b", "3" * 64, 2)]),
]


def planned(manifest: Manifest = MANIFEST, runtime: str = "r" * 64, version: str = "0.1.0") -> Plan:
    return plan(manifest, MODELS, "e" * 64, runtime, version)


def test_layers_lie_in_order_with_what_changes_most_last() -> None:
    made = planned()
    assert [(layer.kind, layer.key, layer.size_bytes) for layer in made.layers] == [
        ("base", "python:3.12", None),
        ("dependencies", "e" * 64, None),
        ("runtime", "r" * 64, None),
        ("code", made.layers[3].key, 15),
        ("model", "d" * 64, 3),
        ("model", "c" * 64, 100),
    ]
    assert made.entrypoint == ENTRYPOINT
    assert made.labels == {
        "io.argosy.manifest": "iris:7",
        "io.argosy.manifest.digest": "f" * 64,
        "io.argosy.models": "extra:1,iris:3",
        "io.argosy.serving": "0.1.0",
    }


def test_the_digest_covers_content_only() -> None:
    later = replace(MANIFEST, name="other", version=9, created_at="2027", description="text", notes=["note"])
    assert planned(later).digest == planned().digest
    assert planned(version="9.9").digest == planned().digest, "the runtime's digest says more than its version"
    assert planned(replace(MANIFEST, digest="0" * 64)).digest != planned().digest
    assert planned(runtime="s" * 64).digest != planned().digest


def test_the_code_layer_depends_on_the_files_alone() -> None:
    changed = replace(MANIFEST, recipe=replace(RECIPE, files=[FILES[0]]))
    other = replace(MANIFEST, recipe=replace(RECIPE, environment={"A": "1"}))
    assert planned(changed).layers[3].key != planned().layers[3].key
    assert planned(other).layers[3].key == planned().layers[3].key


@pytest.mark.parametrize("schema", [None, {"input": {}}])
def test_image_json_is_what_a_replica_reads(schema: dict[str, object] | None) -> None:
    manifest = replace(MANIFEST, recipe=replace(RECIPE, schema=schema, serving={"string_answers": "raw"}))
    assert image_json("p" * 64, manifest, MODELS) == {
        "digest": "p" * 64,
        "manifest": "f" * 64,
        "models": [
            {"name": "iris", "version": 3, "kind": "file", "files": ["model.pkl"]},
            {"name": "extra", "version": 1, "kind": "directory", "files": ["extra/a", "extra/b"]},
        ],
        "script": "score.py",
        "schema": schema,
        "samples": [{"input": 1}],
        "serving": {"string_answers": "raw"},
        "environment": {},
    }
