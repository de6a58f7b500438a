"""The ends of log files, merged, filtered and followed."""

import json
from pathlib import Path

import pytest

from argosy.services import logs
from argosy.services.logs import Follower, as_json, tail


def line(second: int, message: str = "", request_id: str | None = None) -> str:
    stamp = f"2026-01-01T00:00:{second:02}Z"
    return json.dumps({"timestamp": stamp, "message": message or str(second), "request_id": request_id})


def write(path: Path, *lines: str) -> Path:
    with path.open("a") as out:
        out.writelines(f"{text}\n" for text in lines)
    return path


def messages(found: list[str]) -> list[str]:
    return [json.loads(text)["message"] for text in found]


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    first = write(tmp_path / "a.log", line(1), line(4), line(5))
    second = write(tmp_path / "b.log", line(2), line(3), line(6))
    assert messages(tail([first, second], 4)) == ["3", "4", "5", "6"]
    assert messages(tail([first, second], 100)) == ["1", "2", "3", "4", "5", "6"]


def test_what_is_no_json_stays_where_it_was(tmp_path: Path) -> None:
    file = write(tmp_path / "a.log", line(1), "Segmentation fault", '"text"', "[1]", "[" * 100_000, line(2))
    found = messages(tail([file], 10))
    assert found[:4] == ["1", "Segmentation fault", '"text"', "[1]"]
    assert found[-1] == "2"
    (tmp_path / "b.log").write_bytes(b"\xff\xfe bytes\n")
    assert "bytes" in messages(tail([tmp_path / "b.log"], 10))[0]


def test_a_request_is_found_far_back(tmp_path: Path) -> None:
    noise = [line(2, "x" * 200, "other") for _ in range(2000)]
    mentions = [line(3, "wanted") for _ in range(10)]
    file = write(tmp_path / "a.log", line(1, "first", "wanted"), *noise, line(3, "last", "wanted"), *mentions)
    assert messages(tail([file], 5, "wanted")) == ["first", "last"]
    assert messages(tail([file], 1, "wanted")) == ["last"]
    assert tail([file], 5, "nothing") == []
    quoted = write(tmp_path / "b.log", line(1, "odd", 'a"b\\c'))
    assert messages(tail([quoted], 5, 'a"b\\c')) == ["odd"]


def test_a_large_file_costs_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.log", *(line(n % 60, "x" * 1000) for n in range(3000)))
    monkeypatch.setattr(logs, "_BLOCK_BYTES", 4096)
    assert len(tail([file], 1)) == 1
    assert len(tail([file], 2999)) == 2999
    monkeypatch.setattr(logs, "_MOST_BYTES", 100_000)
    assert 80 < len(tail([file], 2999)) < 100


def test_files_that_are_gone_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    assert tail([tmp_path / "empty.log", tmp_path / "gone.log"], 10) == []
    assert Follower([tmp_path / "gone.log"]).read([tmp_path / "gone.log"]) == []


def test_following(tmp_path: Path) -> None:
    file = write(tmp_path / "a.log", line(1))
    follower = Follower([file])
    assert follower.read([file]) == []
    write(file, line(2))
    with file.open("a") as out:
        out.write(line(3)[:10])
    assert messages(follower.read([file])) == ["2"], "half a line waits for its end"
    with file.open("a") as out:
        out.write(line(3)[10:] + "\n")
    other = write(tmp_path / "b.log", line(4, request_id="r"))
    assert messages(follower.read([file, other])) == ["3", "4"]
    write(file, line(5))
    write(other, line(6, request_id="r"))
    assert messages(follower.read([file, other], "r")) == ["6"]


def test_following_over_a_rotation_misses_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "a.log", line(1))
    follower = Follower([file])
    write(file, line(2))
    file.rename(tmp_path / "a.log.1")
    write(file, line(3))
    assert messages(follower.read([tmp_path / "a.log.1", file])) == ["2", "3"]
    file.write_text("")
    assert follower.read([file]) == []
    write(file, line(4))
    assert messages(follower.read([file])) == ["4"], "a file that was emptied begins anew"


def test_a_line_without_time_has_the_one_before() -> None:
    assert as_json(b"plain", "t")[0] == "t"
    assert as_json(line(7).encode(), "t") == ("2026-01-01T00:00:07Z", line(7))
    assert as_json(b'{"timestamp": 5}', "t")[0] == "t"
