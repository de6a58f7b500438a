"""Desired state and history: what every change makes of a service, also when changes meet."""

from typing import Any

import pytest

from argosy.errors import Conflict, InUse, InvalidName, InvalidOption, NotFound, PreconditionFailed
from argosy.records import Reference, ServiceSettings
from services.fakes import Services


def test_a_new_service_wants_its_first_revision(services: Services) -> None:
    stored = services.create(replicas=2)
    assert (stored.live_revision, stored.target_revision, stored.generation, stored.replicas) == (None, 1, 1, 2)
    assert services.revisions() == {1: "starting"}
    keys = services.keyring.keys("iris")
    assert keys.primary != keys.secondary
    assert services.registry.names() == ["iris"]


def test_names_and_parts_are_checked(services: Services) -> None:
    services.create()
    image = services.shelf.images.get(Reference("iris"))
    for name, environment, replicas, error in [
        ("Iris", "local", 1, InvalidName),
        ("iris", "local", 1, Conflict),
        ("other", "nowhere", 1, NotFound),
        ("other", "local", -1, InvalidOption),
        ("other", "local", 1001, InvalidOption),
    ]:
        with pytest.raises(error):
            services.registry.create(name, environment, image, replicas, ServiceSettings(), "")
    with pytest.raises(InUse):
        services.shelf.images.delete(Reference("iris"))
    assert services.registry.names() == ["iris"]


@pytest.mark.parametrize("method", ["get", "mark_deleting"])
def test_unknown_services(services: Services, method: str) -> None:
    with pytest.raises(NotFound):
        getattr(services.registry, method)("nobody")
    with pytest.raises(NotFound):
        services.registry.update("nobody", replicas=1)
    with pytest.raises(NotFound):
        services.registry.history("nobody", 10, None)
    services.create()
    with pytest.raises(NotFound):
        services.registry.revision("iris", 9)


@pytest.mark.parametrize(
    ("changes", "revision", "generation"),
    [
        ({"replicas": 3}, 1, 1),
        ({"description": "new"}, 1, 1),
        ({"changes": {"max_queued_requests": 5}}, 1, 2),
        ({"changes": {"max_queued_requests": 10}}, 1, 1),
        ({"changes": {"max_concurrent_requests": 4}}, 2, 2),
        ({"changes": {"environment": {"A": "1"}, "log_level": "debug"}, "replicas": 0}, 2, 2),
    ],
)
def test_what_an_update_makes_new(services: Services, changes: dict[str, Any], revision: int, generation: int) -> None:
    services.create()
    services.registry.promote("iris", 1)
    stored = services.registry.update("iris", **changes)
    assert (stored.target_revision, stored.generation, stored.live_revision) == (revision, generation, 1)


def test_a_new_revision_keeps_the_image_of_the_live_one(services: Services) -> None:
    services.create()
    services.registry.promote("iris", 1)
    services.new_image()
    services.registry.fail("iris", 2, "broken")
    services.registry.update("iris", changes={"cpu": 2.0})
    assert services.registry.revision("iris", 3).image == "iris:1"


def test_updates_wait_for_a_rollout(services: Services) -> None:
    services.create()
    with pytest.raises(Conflict, match="service wait iris"):
        services.new_image()
    with pytest.raises(Conflict):
        services.registry.update("iris", changes={"cpu": 1.0})
    assert services.registry.update("iris", replicas=4).replicas == 4, "that needs no new revision"
    assert services.revisions() == {1: "starting"}


def test_a_first_revision_that_failed_is_followed_by_another(services: Services) -> None:
    services.create()
    services.registry.fail("iris", 1, "init() raised")
    stored = services.registry.get("iris")
    assert (stored.live_revision, stored.target_revision) == (None, None)
    assert services.registry.revision("iris", 1).reason == "init() raised"
    assert services.registry.update("iris", replicas=2).target_revision is None
    assert services.new_image().target_revision == 2
    services.registry.promote("iris", 2)
    assert services.revisions() == {1: "failed", 2: "live"}


def test_a_failed_rollout_takes_its_cold_settings_along(services: Services) -> None:
    services.create()
    services.registry.promote("iris", 1)
    services.registry.update("iris", changes={"max_concurrent_requests": 8, "max_queued_requests": 3})
    services.registry.fail("iris", 2, "no")
    settings = services.registry.get("iris").settings
    assert (settings.max_concurrent_requests, settings.max_queued_requests) == (1, 3)


def test_the_end_of_an_older_rollout_touches_no_newer_one(services: Services) -> None:
    """The reconciler decides on what it read a moment ago."""
    services.create()
    services.registry.promote("iris", 1)
    services.new_image()
    services.registry.promote("iris", 2)
    services.new_image()
    services.registry.roll_back("iris", 1)
    services.registry.fail("iris", 3, "late")
    stored = services.registry.get("iris")
    assert (stored.live_revision, stored.target_revision) == (2, 1)
    assert services.revisions()[3] == "failed"


def test_rollback_goes_to_what_was_live_before(services: Services) -> None:
    services.create()
    with pytest.raises(Conflict, match="nothing to go back to"):
        services.registry.revision_before("iris", None)
    services.registry.promote("iris", 1)
    with pytest.raises(Conflict, match="nothing to go back to"):
        services.registry.revision_before("iris", None)
    with pytest.raises(Conflict, match="live already"):
        services.registry.revision_before("iris", 1)
    services.registry.update("iris", changes={"cpu": 4.0})
    services.registry.promote("iris", 2)
    services.new_image()
    services.registry.fail("iris", 3, "broken")
    assert services.registry.revision_before("iris", None) == 1
    for wrong in (3, 9, 0, -1):
        with pytest.raises(InvalidOption, match=r"\(1, 2\)"):
            services.registry.revision_before("iris", wrong)
    stored = services.registry.roll_back("iris", 1)
    assert (stored.target_revision, stored.live_revision, stored.settings.cpu) == (1, 2, None)
    assert services.revisions() == {1: "starting", 2: "live", 3: "failed"}
    assert services.registry.roll_back("iris", 1) == stored, "the same again changes nothing"
    services.registry.promote("iris", 1)
    assert services.registry.revision_before("iris", None) == 2, "and forth"


def test_rollback_that_fails_leaves_the_live_one(services: Services) -> None:
    services.create()
    services.registry.promote("iris", 1)
    services.new_image()
    services.registry.promote("iris", 2)
    services.registry.roll_back("iris", 1)
    services.registry.fail("iris", 1, "its file is gone")
    stored = services.registry.get("iris")
    assert (stored.live_revision, stored.target_revision) == (2, 2)
    assert services.revisions() == {1: "failed", 2: "live"}
    services.registry.roll_back("iris", 1)
    assert services.revisions() == {1: "starting", 2: "live"}, "it may be tried again"


def test_rollback_gives_up_a_rollout_that_is_under_way(services: Services) -> None:
    services.create()
    services.registry.promote("iris", 1)
    services.new_image()
    assert services.registry.revision_before("iris", None) == 1
    services.registry.roll_back("iris", 1)
    stored = services.registry.get("iris")
    assert (stored.live_revision, stored.target_revision) == (1, 1)
    assert services.revisions() == {1: "live", 2: "stopped"}
    assert "revision 1" in services.registry.revision("iris", 2).reason


def test_what_is_being_deleted_changes_no_more(services: Services) -> None:
    services.create()
    services.registry.promote("iris", 1)
    services.new_image()
    services.registry.mark_deleting("iris")
    services.registry.mark_deleting("iris")
    with pytest.raises(Conflict, match="being deleted"):
        services.registry.update("iris", replicas=2)
    with pytest.raises(Conflict, match="being deleted"):
        services.registry.roll_back("iris", 1)
    services.registry.fail("iris", 2, "no")
    services.registry.remove("iris")
    services.registry.remove("iris")
    assert services.registry.names() == []
    services.shelf.images.delete(Reference("iris", 1))


def test_if_match(services: Services) -> None:
    before = services.create()
    services.registry.update("iris", replicas=2, if_match=before.etag)
    with pytest.raises(PreconditionFailed):
        services.registry.update("iris", replicas=3, if_match=before.etag)
    assert services.registry.get("iris").replicas == 2


def test_pages(services: Services) -> None:
    for name in ("a", "b", "c", "d", "e"):
        services.create(name)
    found, cursor = [], None
    while True:
        page = services.registry.page(2, cursor)
        found += [stored.name for stored in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert found == ["a", "b", "c", "d", "e"]
    for number in range(1, 5):
        services.registry.promote("a", number)
        services.registry.update("a", changes={"cpu": float(number)})
    first = services.registry.history("a", 3, None)
    rest = services.registry.history("a", 3, first.next)
    assert [r.number for r in first.items + rest.items] == [5, 4, 3, 2, 1]
    assert rest.next is None
