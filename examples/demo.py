"""From nothing to answered requests: train iris, take it through every step, score flowers. Run by `make demo`.

Each command is printed before it runs, so the demo can be repeated by hand. It can be run again at any time, and says
what it found and used again. Files go to `$ARGOSY_HOME/demo`; the default home is `~/.argosy`.
"""

import hashlib
import json
import os
import shlex
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import argosy
from argosy.records import Image, Manifest, Model, ModelPin, Service, ServiceUsage
from argosy.settings import Home

NAME = "iris-demo"
IRIS = Path(os.path.relpath(Path(__file__).parent / "iris"))
PROGRAM = Path(sys.executable).with_name("argosy")
T = TypeVar("T")


def main() -> int:
    for elsewhere in ("ARGOSY_URL", "ARGOSY_TOKEN", "ARGOSY_CA_FILE"):
        os.environ.pop(elsewhere, None)  # the demo is of this machine, whichever control plane is the usual one
    try:
        demo(Home.locate())
    except subprocess.CalledProcessError as failed:
        print(f"\nThe demo stopped, since this command failed: {shown(failed.cmd[1:])}", file=sys.stderr)
        return failed.returncode
    except argosy.Error as problem:
        print(f"\nerror: {problem.message}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("\nStopped. `make demo` goes on from here.", file=sys.stderr)
        return 130
    return 0


def demo(home: Home) -> None:
    step(1, "Start the control plane and the gateway")
    run("up")
    with argosy.connect(home=home.path) as client:
        step(2, "Train a classifier on scikit-learn's iris flowers")
        folder = home.path / "demo"
        flowers, species = train(folder)
        step(3, "Register the model")
        model = register(client, folder / "model.pkl")
        step(4, "Freeze the recipe: script, schema, and dependencies locked with hashes")
        manifest = freeze(client, model, folder / "schema.json")
        step(5, "Make the image and its isolated environment")
        image = build(client, manifest)
        step(6, "Deploy two replicas behind the gateway")
        deploy(client, image)
        step(7, f"Score {len(flowers)} flowers that the model has never seen")
        usage, key = client.services.usage(NAME), client.services.keys(NAME).primary
        answer = score(usage, key, flowers)
    for flower, guess, truth in zip(flowers, answer, species, strict=True):
        sizes = "  ".join(f"{size:4.1f}" for size in flower.values())
        print(f"  {sizes}  ->  {guess:<10}  {'right' if guess == truth else f'wrong, it is {truth}'}")
    print_farewell(usage, key, flowers[:1])


def train(folder: Path) -> tuple[list[dict[str, float]], list[str]]:
    """Write the model and its schema into `folder`; answer five rows held out, and their species."""
    sys.path.insert(0, str(IRIS.resolve()))
    # Imported here: scikit-learn takes a second or two, and the first step should show at once.
    import train as iris

    print(f"  examples/iris/train.py writes to {folder}")
    iris.main(folder)
    _, rows, _, species = iris.split()
    return rows.tail(5).to_dict(orient="records"), species.tail(5).tolist()


def register(client: argosy.Client, path: Path) -> Model:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for model in found(lambda: client.models.versions(NAME)):
        if [file.sha256 for file in model.files] == [digest]:
            reused("model", model.reference, "the file has the same SHA-256")
            return model
    run("model", "register", path, "-n", NAME, "-t", "from=demo")
    return client.models.show(NAME)


def freeze(client: argosy.Client, model: Model, schema: Path) -> Manifest:
    wanted = (
        [ModelPin(model.name, model.version, model.digest)],
        [hashlib.sha256((IRIS / "score.py").read_bytes()).hexdigest()],
        (IRIS / "conda.yml").read_text(),
        json.loads(schema.read_text()),
    )
    for manifest in found(lambda: client.manifests.versions(NAME)):
        recipe = manifest.recipe
        if (recipe.models, [file.sha256 for file in recipe.files], recipe.conda, recipe.schema) == wanted:
            reused("manifest", manifest.reference, "same model, script, conda file and schema")
            return manifest
    run("manifest", "create", "-n", NAME, "-i", model.reference, "-f", IRIS / "score.py", "-c", IRIS / "conda.yml",
        "-s", schema)  # fmt: skip
    return client.manifests.show(NAME)


def build(client: argosy.Client, manifest: Manifest) -> Image:
    for image in found(lambda: client.images.versions(NAME)):
        if image.manifest == manifest.reference and image.state == "ready":
            reused("image", image.reference, f"made from manifest {manifest.reference}")
            return image
    run("image", "create", "-n", NAME, "--manifest", manifest.reference)
    return client.images.show(NAME)


def deploy(client: argosy.Client, image: Image) -> None:
    service: Service | None = next((each for each in client.services.list() if each.name == NAME), None)
    if service is None:
        run("service", "create", NAME, "--image", image.reference, "-z", "2", "--public-docs", "true")
    elif service.image != image.reference:
        run("service", "update", NAME, "--image", image.reference)
    else:
        reused("service", NAME, f"it runs image {image.reference}")
        run("service", "wait", NAME)


def score(usage: ServiceUsage, key: str, rows: list[dict[str, float]]) -> list[str]:
    """One POST as any client would send it. The script returns a JSON string, so the answer is decoded twice."""
    print(f"  POST {usage.scoring_url}")
    request = urllib.request.Request(
        usage.scoring_url,
        json.dumps({"input_df": rows}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=usage.ca_file) if usage.ca_file else None
    with urllib.request.urlopen(request, timeout=60, context=trusted) as response:
        answer: list[str] = json.loads(json.load(response))
    return answer


def print_farewell(usage: ServiceUsage, key: str, rows: list[dict[str, float]]) -> None:
    curl = ["curl", "-s", "-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    curl += ["--cacert", usage.ca_file] if usage.ca_file else []
    curl += ["-d", json.dumps({"input_df": rows}), usage.scoring_url]
    print(f"""
The service {NAME} runs.
  URL       {usage.scoring_url}
  docs      {usage.docs_url}
  Swagger   {usage.swagger_url}
  keys      {shown(["service", "keys", NAME])}
  logs      {shown(["service", "logs", NAME])}
  status    {shown(["status"])}

Ask it yourself:
  {shlex.join(curl)}

Stop everything:
  {shown(["down"])}""")


def step(number: int, title: str) -> None:
    print(f"\n[{number}/7] {title}", flush=True)


def run(*words: str | Path) -> None:
    """An `argosy` command with its own output and progress; raises CalledProcessError when it fails."""
    print(f"  $ {shown(words)}", flush=True)
    subprocess.run([str(PROGRAM), *map(str, words)], check=True)


def shown(words: "list[str] | tuple[str | Path, ...]") -> str:
    """The command as it can be pasted into a shell here."""
    home = f"ARGOSY_HOME={shlex.quote(os.environ['ARGOSY_HOME'])} " if os.environ.get("ARGOSY_HOME") else ""
    program = PROGRAM.relative_to(Path.cwd()) if PROGRAM.is_relative_to(Path.cwd()) else PROGRAM
    return home + shlex.join([str(program), *map(str, words)])


def reused(noun: str, name: str, reason: str) -> None:
    print(f"  used again: {noun} {name} ({reason})", flush=True)


def found(versions: Callable[[], list[T]]) -> list[T]:
    """All versions, newest first; none when the name is unknown."""
    try:
        return versions()
    except argosy.Error as problem:
        if problem.status == 404:
            return []
        raise


if __name__ == "__main__":
    sys.exit(main())
