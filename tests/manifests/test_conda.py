from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.errors import InvalidDependencies
from argosy.manifests.conda import parse_conda
from argosy.manifests.dependencies import Dependencies

FILE = """\
name: project_environment
channels:
  - conda-forge
dependencies:
  # The python interpreter version.
  - python=3.5.2
  - numpy=1.26          # an array
  - conda-forge::pandas>=1.2,<3
  - pip:
    - azureml-defaults   # kept as it is
    - --extra-index-url https://wheels.example/simple
    - requests[socks]>=2 ; python_version > "3"
"""


def one(spec: str) -> Dependencies:
    return parse_conda(f"dependencies:\n  - {spec}\n", "env.yml")


def text_of(spec: str) -> str:
    [requirement] = one(spec).requirements
    return requirement.text


def test_a_file_with_everything() -> None:
    found = parse_conda(FILE, "conda.yml")
    assert [(r.text, r.line) for r in found.requirements] == [
        ("numpy==1.26.*", 7),
        ("pandas<3,>=1.2", 8),
        ("azureml-defaults", 10),
        ('requests[socks]>=2; python_version > "3"', 12),
    ]
    assert found.requirements[0].place == "conda.yml line 7: numpy=1.26"
    assert found.python
    assert (found.python.specifiers, found.python.place) == ("==3.5.2.*", "conda.yml line 6: python=3.5.2")
    assert found.extra_index_urls == ("https://wheels.example/simple",)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy==1.26", "numpy==1.26"),
        ("numpy=1.26.4=py312_0", "numpy==1.26.4"),
        ("numpy==1.26.4=py312_0", "numpy==1.26.4"),
        ("numpy 1.26.4 py312_0", "numpy==1.26.4"),
        ("numpy 1.26", "numpy==1.26"),
        ("numpy 1.26.*", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy=1.26*", "numpy==1.26.*"),
        ("numpy = 1.26", "numpy==1.26.*"),
        ("numpy >=1.2, <2", "numpy<2,>=1.2"),
        ("numpy>=1.2.*", "numpy>=1.2"),
        ("numpy!=1.3", "numpy!=1.3"),
        ("numpy~=1.3", "numpy~=1.3"),
        ("'numpy *'", "numpy"),
        ("numpy=*", "numpy"),
        ("numpy>=1.2,*", "numpy>=1.2"),
        ("NumPy", "numpy"),
        ("conda-forge/linux-64::numpy=1.26", "numpy==1.26.*"),
        ("\"numpy[version='>=1.2,<2']\"", "numpy<2,>=1.2"),
        ("\"numpy[version='1.26', build=py3_0, channel=defaults]\"", "numpy==1.26"),
        ("pytorch=2.1", "torch==2.1.*"),
        ("py-xgboost", "xgboost"),
        ("py-xgboost-cpu=1.7", "xgboost==1.7.*"),
        ("opencv", "opencv-python-headless"),
        ("tensorflow-gpu==2.15", "tensorflow==2.15"),
        ("msgpack-python", "msgpack"),
        ("ruamel_yaml", "ruamel.yaml"),
        ("scikit-learn=1.3", "scikit-learn==1.3.*"),
        ("python-dateutil", "python-dateutil"),
        ("setuptools", "setuptools"),
    ],
)
def test_conda_specifications(spec: str, wanted: str) -> None:
    assert text_of(spec) == wanted


@pytest.mark.parametrize("spec", ["nomkl", "mkl=2023.1", "_libgcc_mutex=0.1=main", "openssl=1.1.1k", "pip", "git"])
def test_what_no_index_has_is_left_out_with_a_note(spec: str) -> None:
    found = one(spec)
    assert found.requirements == ()
    assert "env.yml line 2" in found.notes[0]
    assert "left out" in found.notes[0]


def test_notes_tell_of_names_and_builds() -> None:
    assert "torch" in one("pytorch=2.1").notes[0]
    assert "'py312_0'" in one("numpy=1.26.4=py312_0").notes[0]
    found = parse_conda("variables: {A: b}\ndependencies: [numpy]\n")
    assert "`variables` has no effect" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 0, "empty"),
        ("- numpy\n", 1, "mapping"),
        ("name: x\n", 0, "no `dependencies:` list"),
        ("dependencies: numpy\n", 1, "must be a list"),
        ("dependencies:\n  - numpy\n - pandas\n", 3, "no YAML"),
        ("dependencies:\n  - a\ndependencies:\n  - b\n", 3, "twice"),
        ("dependencies:\n  - numpy>=1.2|<1\n", 2, "(or)"),
        ("dependencies:\n  - numpy=1.26!!x\n", 2, "cannot be used"),
        ("dependencies:\n  - numpy=not_a_version\n", 2, "cannot be used"),
        ("dependencies:\n  - ../numpy\n", 2, "no conda package"),
        ("dependencies:\n  - [a, b]\n", 2, "an entry of `dependencies`"),
        ("dependencies:\n  - {npm: [left-pad]}\n", 2, "only `pip:`"),
        ("dependencies:\n  - pip:\n    - -r other.txt\n", 3, "not uploaded"),
        ("dependencies:\n  - pip:\n    - git+https://x.example/y\n", 3, "link or a file"),
        ("dependencies:\n  - pip:\n    - --index-url https://user:pw@x.example/simple\n", 3, "password"),
        ("dependencies:\n  - pip: numpy\n", 2, "must be a list"),
        ("dependencies:\n  - \"numpy[md5='x']\"\n", 2, "brackets"),
        ("[" * 10_000, 0, "YAML"),
        ("a" * 200_001, 0, "not read"),
        ("a: &a [x]\nb: *c\n", 2, "YAML"),
    ],
)
def test_bad_files(text: str, line: int, said: str) -> None:
    with pytest.raises(InvalidDependencies) as caught:
        parse_conda(text, "env.yml")
    assert said in caught.value.message
    assert "pw" not in caught.value.message
    assert caught.value.details["line"] == line
    assert caught.value.message.startswith(f"env.yml line {line}: " if line else "env.yml: ")


def test_tags_of_yaml_have_no_effect() -> None:
    found = parse_conda("dependencies: !!python/object/apply:os.abort [numpy]\n")
    assert [r.text for r in found.requirements] == ["numpy"]


def test_empty_lists_are_no_errors() -> None:
    assert parse_conda("dependencies:\n").requirements == ()
    assert parse_conda("dependencies:\n  - pip:\n").requirements == ()


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("dependencies:\n -[]{}&*!|>'\"#%@`,?=<~.1a\t"), max_size=60) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidDependencies):
        parse_conda(text)


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("numpy=<>!~,.*|[]:'\" 0123456789_-"), min_size=1, max_size=30))
def test_any_specification_is_read_or_refused(spec: str) -> None:
    with suppress(InvalidDependencies):
        found = parse_conda("dependencies:\n  - '" + spec.replace("'", "''") + "'\n")
        assert all(requirement.name for requirement in found.requirements)
