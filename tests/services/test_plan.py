"""The plan as tables of single steps, and as a simulation that must always arrive without ever being unsafe."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.environments.target import Observed
from argosy.services.plan import (
    Action,
    Desired,
    Drain,
    Fail,
    Forget,
    Kill,
    Promote,
    Removed,
    Route,
    Seen,
    Start,
    Unroute,
    actions,
)


def seen(
    name: str, revision: int = 1, state: str = "ready", routed: bool = False, in_use: int = 0, **fields: object
) -> Seen:
    replica = Observed(name, "iris", revision, state, f"unix@/{name}")
    return Seen(replace(replica, **fields), routed, in_use)  # type: ignore[arg-type]


STEADY = Desired("iris", 2, live=1, target=1)
ROLLING = Desired("iris", 1, live=1, target=2)
FIRST = Desired("iris", 1, live=None, target=1)


@pytest.mark.parametrize(
    ("desired", "replicas", "expected"),
    [
        pytest.param(STEADY, [], [Start(1), Start(1)], id="nothing runs after a reboot"),
        pytest.param(STEADY, [seen("a", routed=True), seen("b", routed=True)], [], id="all is well"),
        pytest.param(STEADY, [seen("a", routed=True), seen("b")], [Route("b")], id="a ready one is routed at once"),
        pytest.param(
            STEADY,
            [seen("a", routed=True), seen("b", state="gone", failure="killed")],
            [Forget("b", "killed"), Start(1)],
            id="a dead one is replaced",
        ),
        pytest.param(
            replace(STEADY, replicas=1),
            [seen("a", routed=True, started_at="1"), seen("b", routed=True, started_at="2")],
            [Unroute("b")],
            id="scaling down takes the younger out of the route first",
        ),
        pytest.param(
            replace(STEADY, replicas=1), [seen("a", routed=True), seen("b", in_use=3)], [], id="requests are waited for"
        ),
        pytest.param(
            replace(STEADY, replicas=1), [seen("a", routed=True), seen("b")], [Drain("b")], id="an idle one is drained"
        ),
        pytest.param(
            replace(STEADY, replicas=1), [seen("a", routed=True), seen("b", state="draining")], [], id="then it ends"
        ),
        pytest.param(
            replace(STEADY, replicas=0), [seen("a", routed=True)], [Unroute("a")], id="scaled to zero: out of the route"
        ),
        pytest.param(FIRST, [seen("a", state="starting")], [], id="a first revision is waited for"),
        pytest.param(FIRST, [seen("a")], [Route("a")], id="a first revision is routed before it is live"),
        pytest.param(FIRST, [seen("a", routed=True)], [Promote(1)], id="and live when it is routed"),
        pytest.param(
            FIRST,
            [seen("a", state="gone", failure="init() raised", deterministic=True)],
            [Fail(1, "init() raised", "a")],
            id="what found itself unable fails at once",
        ),
        pytest.param(
            FIRST,
            [seen("a", state="gone", failure="killed")],
            [Forget("a", "killed"), Start(1)],
            id="what was killed is tried again",
        ),
        pytest.param(ROLLING, [seen("a", routed=True)], [Start(2)], id="the new one starts beside the old"),
        pytest.param(
            ROLLING, [seen("a", routed=True), seen("b", 2, "starting")], [], id="the old one serves until it is ready"
        ),
        pytest.param(ROLLING, [seen("a", routed=True), seen("b", 2)], [Route("b")], id="the new one is routed"),
        pytest.param(
            ROLLING, [seen("a", routed=True), seen("b", 2, routed=True)], [Promote(2)], id="and becomes the live one"
        ),
        pytest.param(
            Desired("iris", 1, 2, 2),
            [seen("a", routed=True), seen("b", 2, routed=True)],
            [Unroute("a")],
            id="then the old one leaves",
        ),
        pytest.param(
            replace(ROLLING, replicas=2),
            [seen("a", routed=True), seen("c", routed=True), seen("b", 2), seen("d", 2, "starting")],
            [],
            id="half a new revision is not routed",
        ),
        pytest.param(
            Desired("iris", 1, 1, 1),
            [seen("a", routed=True), seen("b", 2, "starting")],
            [Kill("b")],
            id="what still starts and is not wanted is ended",
        ),
        pytest.param(
            Desired("iris", 0, None, 1), [], [Start(1)], id="a rollout is proven on one replica, also with none wanted"
        ),
        pytest.param(
            Desired("iris", 1, 1, 1, deleting=True), [seen("a", routed=True)], [Unroute("a")], id="deleting drains"
        ),
        pytest.param(Desired("iris", 1, 1, 1, deleting=True), [], [Removed()], id="and ends when nothing is left"),
    ],
)
def test_single_steps(desired: Desired, replicas: list[Seen], expected: list[Action]) -> None:
    assert actions(desired, replicas) == expected


def test_a_rollout_gives_up_after_three_lost_replicas() -> None:
    lost = seen("c", state="gone", failure="killed")
    assert actions(FIRST, [lost], attempts_lost=1) == [Forget("c", "killed"), Start(1)]
    assert actions(FIRST, [lost], attempts_lost=2) == [Fail(1, "killed", "c")]


def test_nothing_starts_while_the_back_off_lasts() -> None:
    assert actions(STEADY, [seen("a", routed=True)], may_start=False) == []


class World:
    """Does what the plan says, a little later and not always well."""

    def __init__(self, desired: Desired) -> None:
        self.desired = desired
        self.replicas: dict[str, Seen] = {}
        self.removed = False
        self.count = 0

    def step(self) -> bool:
        steps = actions(self.desired, list(self.replicas.values()))
        for step in steps:
            self.do(step)
        return bool(steps)

    def do(self, step: Action) -> None:
        match step:
            case Start(revision):
                self.count += 1
                name = f"r{self.count:03}"
                self.replicas[name] = seen(name, revision, "starting", started_at=f"{self.count:03}")
            case Route(name):
                assert self.replicas[name].replica.state == "ready", "only ready replicas may take requests"
                self.replicas[name] = replace(self.replicas[name], routed=True)
            case Unroute(name):
                self.replicas[name] = replace(self.replicas[name], routed=False)
            case Drain(name):
                gone = self.replicas[name]
                assert not gone.routed, "a routed replica would lose requests"
                assert gone.in_use == 0, "a replica with requests under way would lose them"
                self.change(name, state="draining")
            case Kill(name):
                assert self.replicas[name].replica.state == "starting", "only what serves nothing may be killed"
                self.change(name, state="gone")
            case Forget(name, _):
                del self.replicas[name]
            case Promote(revision):
                ready = [s for s in self.replicas.values() if s.routed and s.replica.revision == revision]
                assert len(ready) >= max(1, self.desired.replicas)
                self.desired = replace(self.desired, live=revision)
            case Fail():
                self.desired = replace(self.desired, target=self.desired.live)
            case Removed():
                assert not self.replicas
                self.removed = True

    def change(self, name: str, **fields: object) -> None:
        one = self.replicas[name]
        self.replicas[name] = replace(one, replica=replace(one.replica, **fields))  # type: ignore[arg-type]

    def progress(self) -> bool:
        """Time passes: what starts becomes ready, what drains goes."""
        moved = False
        for name, one in list(self.replicas.items()):
            following = {"starting": "ready", "draining": "gone"}.get(one.replica.state)
            if following:
                self.change(name, state=following)
                moved = True
        return moved

    def settle(self) -> None:
        for _ in range(200):
            if not (self.step() | self.progress()) or self.removed:
                return
        raise AssertionError(f"never settles: {self.desired} {self.replicas}")


EVENTS = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 4)),
    st.tuples(st.just("update"), st.just(0)),
    st.tuples(st.just("crash"), st.integers(0, 9)),
    st.tuples(st.just("broken"), st.just(0)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("time"), st.just(0)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40), st.booleans())
def test_whatever_happens_it_arrives_and_no_step_is_unsafe(events: list[tuple[str, int]], delete: bool) -> None:
    world = World(FIRST)
    for kind, number in events:
        names = sorted(world.replicas)
        if kind == "scale":
            world.desired = replace(world.desired, replicas=number)
        elif kind == "update" and world.desired.live == world.desired.target:
            world.desired = replace(world.desired, target=(world.desired.target or 0) + 1)
        elif kind == "crash" and names:
            world.change(names[number % len(names)], state="gone", failure="killed")
        elif kind == "broken":
            for name, one in world.replicas.items():
                if one.replica.revision == world.desired.target != world.desired.live:
                    world.change(name, state="gone", failure="init() raised", deterministic=True)
        elif kind == "look":
            world.step()
        elif kind == "time":
            world.progress()
    if delete:
        world.desired = replace(world.desired, deleting=True)
    world.settle()
    if delete:
        assert world.removed
    else:
        wanted = world.desired.replicas if world.desired.live is not None else 0
        assert [(s.replica.revision, s.replica.state, s.routed) for s in world.replicas.values()] == [
            (world.desired.live, "ready", True)
        ] * wanted
