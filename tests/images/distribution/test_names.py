"""Names of images in registries, by Docker's rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.errors import InvalidOption
from argosy.images.distribution.names import ImageName, check_host, is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("python", ImageName("docker.io", "library/python", "latest")),
        ("python:3.12-slim", ImageName("docker.io", "library/python", "3.12-slim")),
        ("ann/iris", ImageName("docker.io", "ann/iris", "latest")),
        ("docker.io/python", ImageName("docker.io", "library/python", "latest")),
        ("index.docker.io/ann/iris", ImageName("docker.io", "ann/iris", "latest")),
        ("localhost/iris", ImageName("localhost", "iris", "latest")),
        ("localhost:5000/iris:2", ImageName("localhost:5000", "iris", "2")),
        ("r.example/a/b/c:x", ImageName("r.example", "a/b/c", "x")),
        ("R.Example:443/a", ImageName("r.example:443", "a", "latest")),
        ("[::1]:5000/a", ImageName("[::1]:5000", "a", "latest")),
        (f"r.example/a@{DIGEST}", ImageName("r.example", "a", None, DIGEST)),
        (f"r.example/a:1@{DIGEST}", ImageName("r.example", "a", "1", DIGEST)),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text: str, found: ImageName) -> None:
    assert ImageName.parse(text) == found
    assert ImageName.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", ":", "/", "a b", "Iris", "r.example/", "r.example/Iris", "r.example//a", "a:", "a:-x", f"a:{'x' * 129}",
     "a@sha256:1", f"a@{DIGEST.upper()}", "r.example:99999/a", "https://r.example/a", "r.example/a/../b", "a___b",
     "r.example/" + "a" * 256],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        ImageName.parse(text)


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = ImageName.parse(text)
    except InvalidOption:
        return
    assert ImageName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["https://r.example", "r.example/v2", "", "r.example:", "r.example:0", "a@b", "-a"])
def test_a_host_stands_alone(text: str) -> None:
    with pytest.raises(InvalidOption, match="host and port alone"):
        check_host(text)


@pytest.mark.parametrize(
    ("host", "near"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1:1", True), ("127.1.2.3", True), ("[::1]:5000", True),
     ("localhost.example", False), ("127.0.0.1.example", False), ("10.0.0.1:5000", False), ("[::2]", False)],
)  # fmt: skip
def test_this_machine_by_name(host: str, near: bool) -> None:
    assert is_loopback(host) is near
