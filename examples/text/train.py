"""Train the text classifier: `python train.py [FOLDER]` writes topics.joblib, schema.json and sample.json there.

The texts are real and on every machine: the docstrings of Python's own standard library, read from its source files
without importing them. The topic of a docstring is the family of the module that it stands in. Which docstrings there
are depends on the Python, so the accuracy differs a little between versions.
"""

import ast
import json
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import joblib
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from argosy.schema import DataTypes, SampleDefinition, generate_schema
from score import run

TOPICS = {
    "concurrency": "asyncio concurrent multiprocessing queue sched selectors subprocess threading",
    "files": "bz2 filecmp fileinput glob gzip lzma os pathlib shelve shutil tarfile tempfile zipfile",
    "graphics": "colorsys idlelib tkinter turtle turtledemo",
    "internet": "email ftplib http imaplib ipaddress mailbox poplib smtplib socket socketserver ssl urllib xmlrpc",
    "language": "ast code compileall dis importlib inspect pkgutil symtable tokenize types typing",
    "numbers": "_pydatetime _pydecimal calendar datetime decimal fractions numbers random statistics",
    "testing": "bdb cProfile cmd doctest pdb profile pstats timeit trace tracemalloc unittest",
    "text": "argparse configparser csv difflib gettext html json locale optparse pprint re string textwrap xml",
}
SHORTEST_CHARACTERS = 60
SAMPLE = [
    "Send an HTTP request to the server and return the response's headers.",
    "Return the arithmetic mean of a sequence of numbers.",
]


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a source file's module, classes and functions that are long enough to say something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if len(text) >= SHORTEST_CHARACTERS:
                yield text


def corpus() -> tuple[list[str], list[str]]:
    """Texts and their topics. A text that stands in several places counts once."""
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, str] = {}
    for topic, modules in TOPICS.items():
        for module in modules.split():
            files = [library / f"{module}.py", *sorted((library / module).rglob("*.py"))]
            for path in files:
                if path.is_file() and not {"test", "tests", "idle_test"} & set(path.parts):
                    found.update((text, topic) for text in docstrings(path))
    return list(found), list(found.values())


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts, topics = corpus()
    train_texts, test_texts, train_topics, test_topics = train_test_split(
        texts, topics, test_size=0.2, random_state=0, stratify=topics
    )
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2), max_features=20_000),
        LogisticRegression(C=10, class_weight="balanced", max_iter=1000, random_state=0),
    ).fit(train_texts, train_topics)
    print(
        f"{len(texts)} docstrings; accuracy on {len(test_texts)} held out: {model.score(test_texts, test_topics):.3f}"
    )
    joblib.dump(model, folder / "topics.joblib", compress=3)

    generate_schema(run, {"texts": SampleDefinition(DataTypes.STANDARD, SAMPLE)}, filepath=str(folder / "schema.json"))
    (folder / "sample.json").write_text(json.dumps({"texts": SAMPLE}, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
