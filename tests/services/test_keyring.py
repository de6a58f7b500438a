"""Two keys for every service; a replaced one lives until every replica knows the new one."""

import pytest

from argosy.errors import InvalidOption, NotFound, StorageFailed
from argosy.keys import Vault, key_hash, new_key
from argosy.services.keyring import Keyring
from services.fakes import Services


def hashes(*keys: str) -> list[str]:
    return sorted(key_hash(key) for key in keys)


def test_keys_are_shown_and_hashed(services: Services) -> None:
    services.create()
    keys = services.keyring.keys("iris")
    assert services.keyring.hashes("iris") == hashes(keys.primary, keys.secondary)
    assert not services.keyring.settling("iris")


@pytest.mark.parametrize("slot", ["primary", "secondary"])
def test_a_replaced_key_is_valid_until_it_is_settled(services: Services, slot: str) -> None:
    services.create()
    old = services.keyring.keys("iris")
    services.keyring.regenerate("iris", slot)
    new = services.keyring.keys("iris")
    assert getattr(new, slot) != getattr(old, slot)
    assert services.keyring.settling("iris")
    assert set(services.keyring.hashes("iris")) == set(hashes(old.primary, old.secondary, new.primary, new.secondary))
    generation = services.registry.get("iris").generation
    services.keyring.settle("iris", generation)
    assert services.keyring.hashes("iris") == hashes(new.primary, new.secondary)
    assert not services.keyring.settling("iris")
    assert services.registry.get("iris").generation == generation + 1


def test_only_the_confirmed_generation_is_settled(services: Services) -> None:
    services.create()
    services.keyring.regenerate("iris", "primary")
    confirmed = services.registry.get("iris").generation
    services.keyring.regenerate("iris", "secondary")
    services.keyring.settle("iris", confirmed)
    assert services.keyring.settling("iris")
    assert len(services.keyring.hashes("iris")) == 4


def test_wrong_slots_and_services(services: Services) -> None:
    services.create()
    with pytest.raises(InvalidOption, match="primary or secondary"):
        services.keyring.regenerate("iris", "tertiary")
    for call in (services.keyring.keys, services.keyring.hashes, services.keyring.settling):
        with pytest.raises(NotFound):
            call("nobody")
    with pytest.raises(NotFound):
        services.keyring.regenerate("nobody", "primary")


def test_no_key_lies_open_in_the_database(services: Services) -> None:
    services.create()
    keys = services.keyring.keys("iris")
    services.shelf.database.close()
    stored = b"".join(path.read_bytes() for path in services.shelf.folder.glob("argosy.db*"))
    assert keys.primary.encode() not in stored
    assert keys.secondary.encode() not in stored


def test_another_master_key_opens_nothing_but_new_keys_can_be_made(services: Services) -> None:
    services.create()
    keyring = Keyring(services.shelf.database, Vault(new_key()))
    with pytest.raises(StorageFailed, match="--regenerate"):
        keyring.keys("iris")
    assert len(keyring.hashes("iris")) == 2, "the data plane goes on"
    for slot in ("primary", "secondary"):
        keyring.regenerate("iris", slot)
    assert keyring.keys("iris").primary
