from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.errors import InvalidDependencies
from argosy.manifests.dependencies import Dependencies, combine
from argosy.manifests.requirements import parse_requirements

DIGEST = "sha256:" + "0a" * 32

FILE = f"""\
\ufeff# what the model needs
--index-url https://own.example/simple
--extra-index-url=https://extra.example/simple
-i https://last.example/simple
numpy==1.26.4 \\
    --hash={DIGEST} \\
    --hash sha256:{"1b" * 32}

Pandas[excel] >= 1.2 , < 3 ; python_version >= "3.9"  # frames
scikit_learn
--pre
--prefer-binary
"""


def test_a_file_with_everything() -> None:
    found = parse_requirements(FILE)
    assert [(r.text, r.name, r.line) for r in found.requirements] == [
        ("numpy==1.26.4", "numpy", 5),
        ('Pandas[excel]<3,>=1.2; python_version >= "3.9"', "pandas", 9),
        ("scikit_learn", "scikit-learn", 10),
    ]
    assert found.requirements[0].hashes == (DIGEST, "sha256:" + "1b" * 32)
    assert found.index_url == "https://last.example/simple"
    assert found.extra_index_urls == ("https://extra.example/simple",)
    assert found.prerelease
    assert found.notes == ("requirements.txt line 12: --prefer-binary has no effect on a lock and is passed over.",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-r other.txt", "not uploaded"),
        ("-rother.txt", "not uploaded"),
        ("--requirement=other.txt", "not uploaded"),
        ("-c limits.txt", "not uploaded"),
        ("-e .", "editable"),
        ("--find-links /opt", "cannot be locked"),
        ("--no-binary :all:", "would run its code"),
        ("--trusted-host x", "always verified"),
        ("--config-settings x", "no option"),
        ("--", "no option"),
        ("-", "no option"),
        ("git+https://x.example/y.git", "link or a file"),
        ("name @ https://x.example/y.whl", "link or a file"),
        ("name@file:///tmp/y.whl", "link or a file"),
        ("https://x.example/y-1.0.tar.gz", "link or a file"),
        ("./local", "link or a file"),
        ("/tmp/local", "link or a file"),
        ("../up", "link or a file"),
        ("~/home", "link or a file"),
        ("thing-1.0-py3-none-any.whl", "link or a file"),
        ("C:\\thing", "link or a file"),
        ("${NAME}==1", "variables"),
        ("numpy=1.2", "no requirement"),
        ("numpy>>1", "no requirement"),
        ("two words", "no requirement"),
        ("numpy --hash=md5:abc", "no hash"),
        ("--index-url ftp://x.example", "http or https"),
        ("--index-url file:///etc", "http or https"),
        ("--index-url https://[bad/", "http or https"),
        ("--index-url", "http or https"),
        ("--extra-index-url https://user:pw@x.example/simple", "password"),
        ("--extra-index-url https://pw@x.example/simple", "password"),
        ("git+https://user:pw@x.example/y", "link or a file"),
    ],
)
def test_what_is_refused(line: str, said: str) -> None:
    with pytest.raises(InvalidDependencies) as caught:
        parse_requirements(f"\nnumpy\n{line}\n", "req.txt")
    assert caught.value.message.startswith("req.txt line 3: ")
    assert said in caught.value.message
    assert "pw" not in caught.value.message
    assert caught.value.details == {"file": "req.txt", "line": 3}


def test_a_hash_sign_within_a_word_is_no_comment() -> None:
    with pytest.raises(InvalidDependencies, match="no requirement"):
        parse_requirements("numpy#1\n")


def test_an_open_continuation_at_the_end() -> None:
    assert parse_requirements("numpy \\").requirements[0].text == "numpy"


def test_too_large() -> None:
    with pytest.raises(InvalidDependencies, match="not read"):
        parse_requirements("#" * 1_000_001)


@pytest.mark.parametrize("unit", [" ", "a", "a.", "\\\n", "a\\\n", " #", "a ", "://", "[", "1,"])
def test_hostile_lines_take_no_time(unit: str) -> None:
    with suppress(InvalidDependencies):
        parse_requirements(unit * (1_000_000 // len(unit)))


def test_parts_are_combined_in_order() -> None:
    both = combine(parse_requirements("a\n--pre", "one"), parse_requirements("-i https://x.example\nb", "two"))
    assert [r.place for r in both.requirements] == ["one line 1: a", "two line 2: b"]
    assert both.index_url == "https://x.example"
    assert both.prerelease
    assert combine() == Dependencies()


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ab1-_.=<>!~,;[]()@:/\\ \n#${}'\"rhe\t\x0c\x85"), max_size=60) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidDependencies):
        for requirement in parse_requirements(text).requirements:
            assert requirement.name
            assert "\n" not in requirement.text
            assert "://" not in requirement.text
