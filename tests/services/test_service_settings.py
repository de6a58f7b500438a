"""Settings of a service: checked, told apart, and turned into what replicas read."""

import json
from typing import Any

import pytest

from argosy.errors import InvalidOption
from argosy.records import ServiceSettings, encode
from argosy.services.secret_references import look_up
from argosy.services.settings import changed, is_cold, live_settings, read, with_cold_of
from argosy_serving.settings import parse_settings

DEFAULTS = ServiceSettings()


@pytest.mark.parametrize(
    "changes",
    [
        {"max_concurrent_requests": 1000}, {"max_queued_requests": 0}, {"cpu": None}, {"cpu": 0.5}, {"cpu": 2},
        {"overload_status": 503}, {"public_docs": True}, {"log_level": "debug"}, {"init_timeout_s": 1.5},
        {"environment": {"A_1": ""}}, {"secrets": {"K": "env:NAME", "L": "file:/x"}}, {},
    ],
)  # fmt: skip
def test_changes(changes: dict[str, Any]) -> None:
    after = changed(DEFAULTS, changes)
    assert {name: getattr(after, name) for name in changes} == changes
    assert read(json.loads(json.dumps(encode(after)))) == after


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colour", 1), ("max_concurrent_requests", 0), ("max_concurrent_requests", 1.0),
        ("max_concurrent_requests", True), ("max_concurrent_requests", "1"), ("max_concurrent_requests", None),
        ("max_queued_requests", -1), ("max_queued_requests", 10**30), ("request_timeout_ms", 0),
        ("max_body_bytes", 0), ("cpu", 0), ("cpu", float("nan")), ("cpu", float("inf")), ("cpu", "1"),
        ("overload_status", 500), ("overload_status", "429"), ("overload_status", [429]), ("public_docs", 1),
        ("public_docs", "true"), ("log_level", "loud"), ("log_level", None), ("environment", None),
        ("environment", []), ("environment", {"A": 1}), ("environment", {"": "x"}), ("environment", {"1A": "x"}),
        ("environment", {"A-B": "x"}), ("environment", {"A=B": "x"}), ("environment", {"Ä": "x"}),
        ("environment", {"A": "\0"}), ("environment", {"A": "\ud800"}), ("environment", {"PYTHONPATH": "/x"}),
        ("environment", {"ARGOSY_MODEL_DIR": "/x"}), ("secrets", {"A": "plain"}), ("secrets", {"A": "env:"}),
        ("secrets", {"A": "file:relative"}), ("secrets", {"PYTHONPATH": "env:A"}), ("secrets", {"A": None}),
    ],
)  # fmt: skip
def test_what_cannot_be(name: str, value: object) -> None:
    with pytest.raises(InvalidOption):
        changed(DEFAULTS, {name: value})


@pytest.mark.parametrize("name", ["min_replicas", "max_replicas", "target_utilization"])
def test_what_only_the_autoscaler_uses_needs_it(name: str) -> None:
    with pytest.raises(InvalidOption, match=f"{name} cannot be 2: .*--autoscale-enabled true"):
        changed(DEFAULTS, {name: 2})
    scaled = changed(DEFAULTS, {name: 2, "autoscale_enabled": True})
    assert getattr(changed(scaled, {name: 3}), name) == 3
    with pytest.raises(InvalidOption, match=name):
        changed(scaled, {name: 3, "autoscale_enabled": False})


def test_cold_settings_need_new_replicas() -> None:
    hot = {"max_queued_requests": 1, "log_level": "debug", "public_docs": True, "overload_status": 503}
    assert not is_cold(DEFAULTS, changed(DEFAULTS, hot))
    for cold in ({"cpu": 1}, {"max_concurrent_requests": 2}, {"environment": {"A": "b"}}, {"init_timeout_s": 5}):
        assert is_cold(DEFAULTS, changed(DEFAULTS, cold))
    mixed = with_cold_of(changed(DEFAULTS, hot | {"cpu": 3}), changed(DEFAULTS, {"cpu": 7, "log_level": "error"}))
    assert (mixed.cpu, mixed.log_level, mixed.max_queued_requests) == (7, "debug", 1)


def test_a_replica_reads_exactly_what_was_written() -> None:
    settings = changed(DEFAULTS, {"max_queued_requests": 3, "overload_status": 503, "public_docs": True})
    written = live_settings(settings, ["b" * 64, "a" * 64, "a" * 64], 7, "https")
    parsed = parse_settings(json.dumps(written).encode())
    assert {name: getattr(parsed, name) for name in written if name != "keys"} == {
        name: value for name, value in written.items() if name != "keys"
    }
    assert [key.hex() for key in parsed.keys] == ["a" * 64, "b" * 64]


def test_secrets_are_looked_up(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    references = {"A": "env:THERE", "B": f"file:{tmp_path}/secret"}
    assert look_up(references, {"THERE": "value"}) == {"A": "value", "B": "from a file"}


@pytest.mark.parametrize(
    ("reference", "content"), [("env:MISSING", None), ("file", None), ("file", b"\xff\xfe"), ("file", b"a\0b")]
)
def test_a_secret_that_is_not_there_is_named_and_never_shown(
    tmp_path: Any, reference: str, content: bytes | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidOption, match="TOKEN") as refused:
        look_up({"TOKEN": f"file:{path}" if reference == "file" else reference}, {"OTHER": "hidden"})
    assert "hidden" not in refused.value.message
