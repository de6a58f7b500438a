from argosy.images.leases import Leases


def test_what_is_used_under_a_lease_is_not_removed_until_nobody_holds_one() -> None:
    leases = Leases()
    removed: list[str] = []
    with leases.hold():
        leases.use("a")
        with leases.hold():  # somebody else's
            pass
        assert not leases.remove("a", lambda: removed.append("a"))
        assert leases.remove("b", lambda: removed.append("b"))
    assert leases.remove("a", lambda: removed.append("a"))
    assert removed == ["b", "a"]


def test_without_a_lease_nothing_is_remembered() -> None:
    leases = Leases()
    leases.use("a")
    assert not leases.used("a")


def test_a_collector_that_came_meanwhile_still_knows_what_a_finished_build_used() -> None:
    leases = Leases()
    collecting = leases.hold()
    with leases.hold():
        leases.use("layer")
        collecting.__enter__()
    assert leases.used("layer"), "the build is done, the collector may have read the tags before that"
    collecting.__exit__(None, None, None)
    assert not leases.used("layer")
