"""What a file of steps may hold, and how each line that cannot be used is refused."""

import pytest

from argosy.errors import InvalidFile
from argosy.images.docker.steps import check_sources, parse, sources_of
from argosy.images.docker.words import expand, split

GOOD = """\
# system packages
ARG SUITE=bookworm
run apt-get update \\
    # a comment in the middle

 && apt-get install -y libgomp1
ENV MODE=fast GREETING="good day"
ENV LEGACY a b  c
LABEL org.example.team="risk & co"
EXPOSE 8080 9000-9002/udp
Copy data/words.txt data/more /srv/
COPY ["with blank.txt", "/srv/with blank.txt"]
RUN ["/bin/echo", "plain"]
"""


def refused(text: str) -> str:
    with pytest.raises(InvalidFile) as caught:
        parse(text, "steps.txt")
    return caught.value.message


def test_instructions_are_read_with_their_line_whatever_their_case() -> None:
    steps = parse(GOOD, "steps.txt")
    assert [(step.line, step.instruction) for step in steps] == [
        (2, "ARG"), (3, "RUN"), (7, "ENV"), (8, "ENV"), (9, "LABEL"), (10, "EXPOSE"), (11, "COPY"), (12, "COPY"),
        (13, "RUN"),
    ]  # fmt: skip
    assert steps[1].words == ("/bin/sh", "-c", "apt-get update  && apt-get install -y libgomp1")
    assert steps[3].words == ("LEGACY=a b  c",)
    assert steps[7].words == ("with blank.txt", "/srv/with blank.txt")
    assert steps[8].words == ("/bin/echo", "plain")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("FROM debian", "--base"),
        ("USER nobody", "root"),
        ("WORKDIR /srv", "cd FOLDER"),
        ('ENTRYPOINT ["sh"]', "scoring server"),
        ("ADD https://example.com/x /x", "COPY"),
        ("ONBUILD RUN true", "ONBUILD"),
        ("INSTALL libgomp1", "'INSTALL' is no instruction"),
        ("RUN", "says nothing"),
        ("RUN --mount=type=secret,id=x true", "--mount"),
        ("RUN cat <<EOF > /x", "here-documents"),
        ("RUN <<EOF", "here-documents"),
        ("COPY --from=builder /x /y", "--from"),
        ("COPY --chown=1:1 x /y", "--chown"),
        ("COPY x", "where it goes"),
        ("COPY /etc/passwd /srv/", "no file of the manifest"),
        ("COPY https://example.com/x /srv/", "no file of the manifest"),
        ("COPY ../x /srv/", "'..'"),
        ("COPY a/../../x /srv/", "'..'"),
        ("COPY *.txt /srv/", "plain paths"),
        ("COPY $X /srv/", "plain paths"),
        ("COPY x y", "absolute"),
        ("COPY x /srv/../etc", "'..'"),
        ("COPY x /opt/argosy/image/", "nothing can be put"),
        ("COPY x y /srv", "write /srv/"),
        ("ENV NAME", "has no value"),
        ("ENV 1X=2", "no name"),
        ("ENV ARGOSY_KEYS=abc", "keys never"),
        ("ENV X=${Y%z}", "write $NAME"),
        ('ENV X="open', "never closed"),
        ("ARG VERSION", "has no value"),
        ("EXPOSE 99999", "no port"),
        ("EXPOSE $PORT", "no port"),
        ("# escape=`", "backslash"),
        ("RUN true \\", "nothing follows"),
        ("RUN printf 'a\0b'", "NUL"),
    ],
)
def test_anything_else_is_refused_by_its_line(line: str, why: str) -> None:
    message = refused(f"RUN true\n\n{line}\n")
    assert "steps.txt: line 3: " in message and why in message


def test_a_tab_parts_the_instruction_from_its_words() -> None:
    (run, label) = parse("RUN\techo hello there\nLABEL\t a=b\n", "steps.txt")
    assert (run.instruction, run.words[-1], run.text) == ("RUN", "echo hello there", "RUN echo hello there")
    assert (label.instruction, label.words) == ("LABEL", ("a=b",))


def test_every_bad_line_is_named_at_once() -> None:
    message = refused("FROM debian\nRUN true\nUSER me\n")
    assert "line 1: FROM" in message and "line 3: USER" in message


def test_a_file_without_steps_is_refused() -> None:
    assert "has no steps" in refused("# nothing\n\n")


@pytest.mark.parametrize("shell", ["echo '<<EOF'", 'echo "<<EOF"', "echo $((1<<N))", "grep x <<< y"])
def test_what_only_looks_like_a_here_document_is_a_shells_business(shell: str) -> None:
    assert parse(f"RUN {shell}", "steps.txt")[0].words[-1] == shell


def test_copies_are_checked_against_the_files_of_the_manifest() -> None:
    files = ["score.py", "data/a.txt", "data/b/c.txt"]
    check_sources(parse("COPY data ./score.py /srv/", "s"), files, "s")
    assert sources_of("data/", files) == {"data/a.txt": "a.txt", "data/b/c.txt": "b/c.txt"}
    assert sources_of(".", files).keys() == set(files)
    with pytest.raises(InvalidFile, match=r"line 2: the manifest has no file 'dat' .*score\.py"):
        check_sources(parse("RUN true\nCOPY dat /srv/", "s"), files, "s")


def test_words_are_parted_outside_quotes_and_resolved_like_dockers() -> None:
    assert split("""a "b c" d\\ e 'f "g'""") == ["a", '"b c"', "d\\ e", "'f \"g'"]
    known = {"A": "1", "EMPTY": ""}
    for written, meant in {
        '"x $A ${A}y"': "x 1 1y",
        "'$A'": "$A",
        "\\$A": "$A",
        "${EMPTY:-none}${A:+some}": "nonesome",
        '"a\\"b\\n"': 'a"b\\n',
        "$NOTHING.": ".",
    }.items():
        assert expand(written, known) == meant
