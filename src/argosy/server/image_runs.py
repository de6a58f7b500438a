"""The operation `image.run`: one replica of an image for a moment, asked its sample or a given one."""

import contextlib
import os
from pathlib import Path
from typing import Any

from argosy.environments.container import discovery
from argosy.environments.container.engines import Engines
from argosy.environments.container.replica import IMAGE
from argosy.environments.registry import EnvironmentRegistry
from argosy.environments.target import Container, Launch
from argosy.environments.trial import Limits, Trial
from argosy.errors import EngineFailed, InvalidOption
from argosy.images.build import ImageBuilder
from argosy.images.oci.platforms import own_platform
from argosy.images.registry import ImageRegistry
from argosy.records import Image, Manifest, Reference, encode
from argosy.server.operations import Interrupted, Job, Step
from argosy.server.scratch_replicas import ScratchReplicas
from argosy.services.secret_references import look_up

_SHOWN_LINES = 60


class ImageRuns:
    """`image.run` needs no service, and touches none."""

    def __init__(
        self,
        images: ImageRegistry,
        builder: ImageBuilder,
        environments: EnvironmentRegistry,
        engines: Engines,
        scratch: ScratchReplicas,
    ) -> None:
        self._images, self._builder = images, builder
        self._environments, self._engines, self._scratch = environments, engines, scratch

    def steps(self) -> list[Step]:
        return [Step("run", self._run)]

    def _run(self, job: Job) -> dict[str, Any]:
        """`{"image", "run": {"where", "failure", "load_s", "answers", "log", "ok"}}`. One that does not work is a
        result, not an error."""
        if leftover := job.made.get("_replica"):
            self._scratch.end(leftover)
        image, manifest, _ = self._images.content(Reference.parse("image", job.input["image"]))
        given = job.input.get("sample")
        samples = manifest.recipe.samples[:1] if given is None else [given]

        def check() -> None:
            if job.stopping:
                raise Interrupted

        where, trial = self._trial(job, image, manifest, check)
        job.say(f"Starting {where}")
        # A container is known by its name before it is there: a crash over its start leaves none behind.
        job.keep(_replica=trial.identity)
        with trial as running:
            job.keep(_replica=running.identity)
            tried = running.ask(samples, manifest.recipe.schema is not None)
        return {
            "image": image.reference,
            "run": {
                "ok": not tried.failure and all(answer.ok for answer in tried.answers),
                "where": where,
                "failure": tried.failure,
                "load_s": round(tried.load_s, 3),
                "answers": [{**encode(answer), "ok": answer.ok} for answer in tried.answers],
                "log": [line for line in tried.log if line.strip()][-_SHOWN_LINES:],
            },
        }

    def _trial(self, job: Job, image: Image, manifest: Manifest, check: Any) -> tuple[str, Trial]:
        """Where it runs, in words, and how."""
        limits = Limits()
        digest = image.oci.get(own_platform())
        named = job.input.get("environment")
        engine = self._engine(named)
        if named and engine and digest is None:
            raise InvalidOption("--env", named, f"{image.reference} was not built as OCI. {_how_to_build(image)}")
        if digest is None or not engine:
            why = f"{image.reference} was not built as OCI" if digest is None else "no container engine answers here"
            where = "a process of this machine" + ("" if named else f", since {why}")
            return where, self._scratch.trial(self._process(image, manifest), limits, check, job.say)
        about = self._engines.get(engine).about()
        launch = self._container(image, manifest, Container(named or "", engine, digest, image.reference))
        return f"a container of {about} at {engine}", self._scratch.trial(launch, limits, check, job.say)

    def _engine(self, named: str | None) -> str:
        """The socket of the environment's, else of the first one that has any, else of this machine's; "" for none."""
        if named is not None:
            return self._environments.get(named).engine
        known = sorted(self._environments.all(), key=lambda each: not each.is_default)
        for url in (each.engine for each in known if each.engine):
            with contextlib.suppress(EngineFailed):
                self._engines.get(url).ping()
                return url
        try:
            return discovery.find()
        except (InvalidOption, EngineFailed):
            return ""

    def _process(self, image: Image, manifest: Manifest) -> Launch:
        runnable = self._builder.runnable(Reference(image.name, image.version))
        return self._launch(image, manifest, runnable.folder, runnable.python, runnable.runtime_folder)

    def _container(self, image: Image, manifest: Manifest, container: Container) -> Launch:
        own = IMAGE.parent
        return self._launch(image, manifest, IMAGE, own / "bin" / "python", own / "runtime", container)

    def _launch(
        self,
        image: Image,
        manifest: Manifest,
        folder: Path,
        python: Path,
        runtime: Path,
        container: Container | None = None,
    ) -> Launch:
        recipe = manifest.recipe
        return Launch(
            service=image.name,
            revision=image.version,
            image_folder=folder,
            python=python,
            runtime_folder=runtime,
            models=[(pin.name, pin.version) for pin in image.models],
            variables={**recipe.environment, **look_up(recipe.secrets, os.environ)},
            container=container,
        )


def _how_to_build(image: Image) -> str:
    return f"Build it: argosy image create -n {image.name} --manifest {image.manifest} --builder oci"
