"""B14: an OCI image built again after a new model, a second build of the same manifest, and the iris example whole.

The whole way of `argosy image create --builder oci`, from the SDK into a control plane of its own, over a copy of the
model's bytes that reaches the disk. The model has 1 GB, the script needs no packages but the runtime's, the base holds
this machine's Python alone: neither is written again. TMPDIR should be on the disk that matters.

The iris example (scikit-learn and pandas) is built into a home where nothing is, with its packages in uv's cache, then
again with a new model. The size is that of the layers that Argosy adds to the base.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import argosy
from argosy.images.oci.layout import CONFIG, MANIFEST, TAR, Descriptor, OciLayout
from argosy.images.oci.platforms import own_platform
from bench import argosy_rows, machine
from bench.budgets.registering import make
from bench.results import middle
from bench.servers import scratch

_SIZE_BYTES = 1_000_000_000
_SCRIPT = "def run(numbers):\n    return numbers\n"


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    over_s, again_s, copies_s, written = [], [], [], set()
    with scratch() as folder, argosy_rows.home(folder) as home:
        client = argosy.connect(home=home.home)
        base = _base(folder)
        script, model = folder / "score.py", folder / "model.bin"
        script.write_text(_SCRIPT)
        make(model, _SIZE_BYTES)
        _build(client, model, script, base)
        for _ in range(rounds):
            with model.open("r+b") as stream:
                stream.write(os.urandom(16))
            manifest = _manifest(client, model, script)
            before = _layers(home.home)
            os.sync()
            copies_s.append(_copied(model))
            os.sync()
            over_s.append(_timed(client, manifest, base) - copies_s[-1])
            again_s.append(_timed(client, manifest, base))
            written.add(len(_layers(home.home) - before))
            model.with_suffix(".copy").unlink()
    return {
        **_iris(rounds),
        "over_s": middle(over_s),
        "again_s": middle(again_s),
        "copy_s": middle(copies_s),
        "new_blobs": max(written),
    }


def _iris(rounds: int) -> dict[str, float | None]:
    first_s, changed_s, size_mb = [], [], 0.0
    with scratch() as folder:
        example, base = folder / "iris", _base(folder)
        shutil.copytree(machine.ROOT / "examples" / "iris", example)
        subprocess.run([sys.executable, "train.py", str(example)], cwd=example, check=True, capture_output=True)
        # The first of them fills uv's cache, and is not counted.
        for number in range(rounds + 1):
            (folder / str(number)).mkdir()
            with argosy_rows.home(folder / str(number)) as home:
                client = argosy.connect(home=home.home)
                times = []
                for _ in range(2):
                    with (example / "model.pkl").open("ab") as stream:
                        stream.write(os.urandom(16))  # behind the pickle's end
                    made = client.manifests.create(
                        "iris", model_files=[example / "model.pkl"], script=example / "score.py",
                        conda=example / "conda.yml", schema=example / "schema.json",
                    )  # fmt: skip
                    times.append(_timed(client, str(made.result["manifest"]), base, "iris"))
                own = client.images.show("iris").contents[0].layers[1:]
                size_mb = sum(layer.size_bytes for layer in own) / 1e6
            if number:
                first_s.append(times[0])
                changed_s.append(times[1])
            shutil.rmtree(folder / str(number))
    return {"iris_first_s": middle(first_s), "iris_changed_s": middle(changed_s), "iris_mb": size_mb}


def _base(folder: Path) -> str:
    layout = OciLayout(folder / "base")
    with tarfile.open(folder / "base.tar", "w") as tar:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        tar.add(os.path.realpath(sys.executable), f"usr/local/bin/{python}")
    digest, size_bytes = layout.add([(folder / "base.tar").read_bytes()])
    os_name, _, architecture = own_platform().partition("/")
    config = {
        "architecture": architecture,
        "os": os_name,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, *layout.add_json(config)).json(),
        "layers": [Descriptor(TAR, digest, size_bytes).json()],
    }
    layout.tag("base", Descriptor(MANIFEST, *layout.add_json(manifest)))
    return f"oci:{layout.root}:base"


def _manifest(client: argosy.Client, model: Path, script: Path) -> str:
    made = client.manifests.create("bench", model_files=[model], script=script)
    return str(made.result["manifest"])


def _build(client: argosy.Client, model: Path, script: Path, base: str) -> None:
    _timed(client, _manifest(client, model, script), base)


def _timed(client: argosy.Client, manifest: str, base: str, name: str = "bench") -> float:
    began = time.perf_counter()
    client.images.create(name, manifest=manifest, builder="oci", base_image=base)
    return time.perf_counter() - began


def _copied(source: Path) -> float:
    began = time.perf_counter()
    copy = source.with_suffix(".copy")
    shutil.copyfile(source, copy)
    with copy.open("rb") as stream:
        os.fsync(stream.fileno())
    return time.perf_counter() - began


def _layers(home: Path) -> set[str]:
    return {path.name for path in (home / "oci" / "blobs" / "sha256").iterdir()}
