"""Shares of a machine that has less than all services want."""

from hypothesis import given
from hypothesis import strategies as st

from argosy.services.fair_share import Claim, shares, wanted_cores, why_less

CLAIMS = st.lists(
    st.builds(
        lambda wants, floor, cores: Claim("", wants, min(wants, floor), cores),
        st.integers(0, 12),
        st.integers(0, 3),
        st.sampled_from([0.25, 0.5, 1.0]),
    ),
    max_size=8,
).map(lambda found: [Claim(f"s{i}", c.wants, c.floor, c.cores) for i, c in enumerate(found)])


def test_everybody_gets_what_fits() -> None:
    claims = [Claim("a", 6, 1, 0.25), Claim("b", 2, 1, 0.25)]
    assert shares(claims, 2.0) == {"a": 6, "b": 2}


def test_who_wants_little_gets_it_and_the_others_share_the_rest() -> None:
    claims = [Claim("a", 6, 1, 0.25), Claim("b", 1, 1, 0.25), Claim("c", 6, 1, 0.25), Claim("d", 1, 1, 0.25)]
    assert shares(claims, 2.0) == {"a": 3, "b": 1, "c": 3, "d": 1}
    assert why_less(claims[0], 3, claims, 2.0) == (
        "wants 6, gets 3: 4 services want 3.5 of the machine's 2 cores (0.25 a replica)"
    )


def test_what_a_user_set_is_never_taken() -> None:
    claims = [Claim("manual", 9, 9, 0.25), Claim("auto", 5, 1, 0.25)]
    assert shares(claims, 2.0) == {"manual": 9, "auto": 1}


def test_large_replicas_share_by_cores() -> None:
    assert shares([Claim("large", 4, 0, 1.0), Claim("small", 16, 0, 0.25)], 4.0) == {"large": 2, "small": 8}


@given(CLAIMS, st.sampled_from([0.5, 2.0, 4.0]))
def test_fair_and_never_wasteful(claims: list[Claim], capacity: float) -> None:
    given_ = shares(claims, capacity)
    floors = sum(claim.floor * claim.cores for claim in claims)
    used = sum(given_[claim.service] * claim.cores for claim in claims)
    assert used <= max(capacity, floors) + 1e-6 or wanted_cores(claims) <= capacity
    for claim in claims:
        got = given_[claim.service]
        assert claim.floor <= got <= claim.wants
        if got == claim.wants:
            continue
        assert used + claim.cores > capacity, "what is left would not hold one more"
        for other in claims:
            # What is left over for smaller replicas only is theirs.
            if other is not claim and given_[other.service] > other.floor and other.cores >= claim.cores:
                assert given_[other.service] * other.cores <= (got + 1) * claim.cores + 1e-6, "nobody has more"


@given(CLAIMS)
def test_the_order_of_claims_does_not_matter(claims: list[Claim]) -> None:
    assert shares(claims, 2.0) == shares(list(reversed(claims)), 2.0)
