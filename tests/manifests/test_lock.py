import re
import threading
from pathlib import Path

import pytest

from argosy.errors import EnvironmentFailed, InvalidDependencies
from argosy.manifests.conda import parse_conda
from argosy.manifests.lock import index_for, make_lock, read_entries, resolve
from argosy.manifests.requirements import parse_requirements
from argosy.records import Lock
from manifests.package_index import PackageIndex


def lock(text: str, index: PackageIndex, python: str = "3.12", serving: tuple[str, ...] = ()) -> Lock:
    return resolve(parse_requirements(text), python, serving, index.url)


def problem(text: str, index: PackageIndex, python: str = "3.12", serving: tuple[str, ...] = ()) -> str:
    with pytest.raises(InvalidDependencies) as caught:
        lock(text, index, python, serving)
    assert caught.value.details["log"]
    return caught.value.message


def test_a_lock_has_exact_versions_hashes_and_no_index(index: PackageIndex) -> None:
    made = lock("alpha\n", index, serving=("beta>=1.0",))
    assert made.packages == {"alpha": "1.0", "beta": "1.1"}
    assert made.python == "3.12"
    assert made.text.count("--hash=sha256:") == 2
    assert index.url not in made.text
    assert "http" not in made.text


def test_the_order_of_the_requirements_does_not_matter(index: PackageIndex) -> None:
    assert lock("gamma\nbeta\n", index).text == lock("beta\ngamma\n", index).text


def test_nothing_to_install_is_a_lock_too(index: PackageIndex) -> None:
    assert lock("# nothing\n", index) == Lock("3.12", "", {})


def test_a_package_that_does_not_exist(index: PackageIndex) -> None:
    said = problem("beta\n\nno-such-thing>=1  # why not\n", index)
    assert "no package 'no-such-thing'" in said
    assert "requirements.txt line 3: no-such-thing>=1" in said


def test_a_version_that_does_not_exist_shows_its_neighbours(index: PackageIndex) -> None:
    with pytest.raises(InvalidDependencies) as caught:
        resolve(parse_conda("dependencies:\n  - beta==1.0.5\n"), "3.12", (), index.url)
    assert "no version of beta that fits ==1.0.5" in caught.value.message
    assert "conda.yml line 2: beta==1.0.5" in caught.value.message
    assert caught.value.details["nearest"] == ["1.0", "1.1"]


def test_a_version_above_all(index: PackageIndex) -> None:
    said = problem("beta>=7\n", index)
    assert "no version of beta that fits >=7" in said
    assert "2.0" in said


def test_a_conflict_names_both_lines(index: PackageIndex) -> None:
    said = problem("alpha\ngamma\n", index)
    assert "requirements.txt line 1: alpha" in said
    assert "requirements.txt line 2: gamma" in said
    assert "beta" in said


def test_a_conflict_with_the_serving_runtime_says_so(index: PackageIndex) -> None:
    said = problem("beta<2\n", index, serving=("serving",))
    assert "requirements.txt line 1: beta<2" in said
    assert "Argosy's serving runtime: serving" in said


def test_a_source_distribution_is_never_built(index: PackageIndex) -> None:
    said = problem("sigma\n", index)
    assert "sigma has no wheel for Python 3.12" in said
    assert "would run their code in the control plane" in said
    assert not any(path.endswith(".tar.gz") for path in index.asked)


def test_a_package_without_wheels_deep_down_names_who_needs_it(index: PackageIndex) -> None:
    said = problem("epsilon\n", index)
    assert "sigma has no wheel" in said
    assert "needed by requirements.txt line 1: epsilon" in said


def test_wheels_of_another_kind_of_machine_are_no_wheels(index: PackageIndex) -> None:
    assert "omega has no wheel for Python 3.12 on this kind of machine" in problem("omega\n", index)


def test_a_version_for_another_python(index: PackageIndex) -> None:
    said = problem("delta==2.0\n", index)
    assert "delta" in said
    assert "3.13" in said
    assert "-r python:X.Y" in said
    assert lock("delta==2.0\n", index, "3.13").packages == {"delta": "2.0"}
    assert lock("delta\n", index, "3.11").packages == {"delta": "1.0"}


def test_hashes_of_the_file_are_kept_to(index: PackageIndex) -> None:
    free = lock("beta==1.1\n", index)
    digest = re.findall(r"sha256:[0-9a-f]{64}", free.text)[0]
    assert lock(f"beta==1.1 --hash={digest}\n", index) == free
    with pytest.raises(InvalidDependencies, match="none of the hashes"):
        lock(f"beta==1.1 --hash=sha256:{'0' * 64}\n", index)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "refused access"), (403, "refused access"), (500, "did not answer")]
)
def test_an_index_that_does_not_serve(index: PackageIndex, status: int, said: str) -> None:
    index.status = status
    with pytest.raises(EnvironmentFailed, match=said):
        lock("beta\n", index)


def test_an_index_that_is_not_there_shows_no_password(index: PackageIndex) -> None:
    with pytest.raises(EnvironmentFailed, match="did not answer") as caught:
        resolve(parse_requirements("beta\n"), "3.12", (), "http://user:secret@127.0.0.1:9/simple")
    assert "secret" not in caught.value.message + str(caught.value.details)


def test_offline_is_said(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(EnvironmentFailed, match="offline"):
        lock("beta\n", index)


def test_the_users_own_configuration_of_uv_counts(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text(f'[[index]]\nurl = "{index.url}"\ndefault = true\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert resolve(parse_requirements("beta\n"), "3.12", ()).packages == {"beta": "2.0"}
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    assert resolve(parse_requirements("beta\n"), "3.12", ()).packages == {"beta": "2.0"}


def test_a_project_in_the_working_directory_does_not_count(
    index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nconstraint-dependencies = ["beta<1.1"]\nno-index = true\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV_WORKING_DIR", str(tmp_path))
    monkeypatch.setenv("UV_PROJECT", str(tmp_path))
    assert lock("beta\n", index).packages == {"beta": "2.0"}


def test_output_comes_line_by_line(index: PackageIndex) -> None:
    lines: list[str] = []
    resolve(parse_requirements("beta\n"), "3.12", (), index.url, on_line=lines.append)
    assert any("Resolved 1 package" in line for line in lines)


def test_locks_are_made_at_the_same_time(index: PackageIndex) -> None:
    made: list[Lock] = []
    threads = [threading.Thread(target=lambda: made.append(lock("alpha\n", index))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    assert len({each.text for each in made}) == 1


def test_indexes_of_the_file_come_before_the_settings() -> None:
    named = parse_requirements("--extra-index-url https://one.example/simple\n")
    found = index_for(named, "https://own.example/simple", "https://two.example/simple https://one.example/simple")
    assert found.url == "https://own.example/simple"
    assert found.extra_urls == ("https://one.example/simple", "https://two.example/simple")


def test_an_extra_index_is_asked(index: PackageIndex) -> None:
    named = parse_requirements(f"--extra-index-url {index.url}\nbeta\n")
    assert resolve(named, "3.12", (), "http://127.0.0.1:9/simple").packages == {"beta": "2.0"}


def test_entries_keep_markers_and_lose_comments() -> None:
    digest = "sha256:" + "a" * 64
    old, new = "python_full_version < '3.11'", "python_full_version >= '3.11'"
    text = f"# made\nBeta==1.0 ; {old} \\\n    --hash={digest}\nbeta==2.0 ; {new} \\\n    --hash={digest}\n"
    made = make_lock(read_entries(text), "3.12")
    assert made.packages == {"beta": "2.0"}
    assert read_entries(made.text) == sorted(read_entries(text), key=lambda e: e.version)
    with pytest.raises(EnvironmentFailed, match="without version or hash"):
        read_entries("beta==2.0\n")


def test_a_full_temporary_folder_is_said(index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(EnvironmentFailed, match="TMPDIR"):
        lock("beta\n", index)


@pytest.mark.usefixtures("real_index")
def test_real_packages() -> None:
    made = resolve(parse_requirements("numpy\nclick\n"), "3.12", ("six",))
    assert {"numpy", "click", "six"} <= set(made.packages)
    with pytest.raises(InvalidDependencies, match=r"no version of numpy that fits ==9\.9") as caught:
        resolve(parse_requirements("numpy==9.9\n"), "3.12", ())
    assert caught.value.details["nearest"]
    with pytest.raises(InvalidDependencies, match=r"numpy.*3\.10"):
        resolve(parse_requirements("numpy==2.4.0\n"), "3.10", ())
