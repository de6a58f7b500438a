"""Keys: made, hashed, sealed, and kept in files that only their owner reads."""

import base64
import stat
from pathlib import Path

import pytest

from argosy.errors import StorageFailed
from argosy.keys import Vault, key_hash, new_key, read_or_make, same, write_private


def test_keys_are_256_random_bits() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(base64.urlsafe_b64decode(key + "=")) for key in keys} == {32}


def test_same_takes_any_text() -> None:
    assert same("ä", "ä")
    assert not same("a", "ab")
    assert key_hash("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_a_private_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OSError):
        write_private(tmp_path / "missing" / "token", b"x")
    with pytest.raises(TypeError):
        write_private(path, "no bytes")  # type: ignore[arg-type]
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"two", [path])


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert read_or_make(path, "first") == "first"
    assert read_or_make(path, "second") == "first"


@pytest.mark.parametrize("content", [b"", b"\n", b" ", b"\xff\xfe\x00"])
def test_an_empty_secret_opens_nothing(tmp_path: Path, content: bytes) -> None:
    """An empty token would let in whoever sends none."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(StorageFailed, match="backup"):
        read_or_make(path, "new")
    assert path.read_bytes() == content


def test_sealed_keys_open_for_their_purpose_alone(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path / "master.key")
    sealed = vault.seal("secret", "iris/primary")
    assert b"secret" not in sealed
    assert vault.seal("secret", "iris/primary") != sealed
    assert Vault.open(tmp_path / "master.key").open_sealed(sealed, "iris/primary") == "secret"
    for wrong in (sealed[:-1], sealed[1:], b"", sealed[:12]):
        with pytest.raises(StorageFailed, match="another master key"):
            vault.open_sealed(wrong, "iris/primary")
    with pytest.raises(StorageFailed):
        vault.open_sealed(sealed, "iris/secondary")
    with pytest.raises(StorageFailed):
        Vault(new_key()).open_sealed(sealed, "iris/primary")


@pytest.mark.parametrize("master", ["", "short", "A" * 47, "ü" * 43, "%" * 43])
def test_a_master_key_of_the_wrong_size(master: str) -> None:
    with pytest.raises(StorageFailed, match="32"):
        Vault(master)


def test_the_environment_gives_the_master_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    monkeypatch.setenv("ARGOSY_MASTER_KEY", key)
    vault = Vault.open(tmp_path / "master.key")
    assert not (tmp_path / "master.key").exists()
    assert Vault(key).open_sealed(vault.seal("x", "p"), "p") == "x"
