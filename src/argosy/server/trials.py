"""The operation `manifest.test`: a manifest's samples, answered in its image's own environment."""

import json
import os
from collections.abc import Iterable
from typing import Any

from argosy.environments.target import Launch
from argosy.environments.trial import Limits, Trial, Tried, end_leftover
from argosy.images.build import ImageBuilder
from argosy.manifests.advice import advice
from argosy.manifests.registry import ManifestRegistry
from argosy.models.registry import ModelRegistry
from argosy.records import Manifest, Reference, encode
from argosy.server.operations import Interrupted, Job, Step
from argosy.services.secret_references import look_up
from argosy.settings import Home

_SHOWN_LINES = 60


class Trials:
    """Runs the operation, and knows what to advise when a replica does not work."""

    def __init__(self, home: Home, models: ModelRegistry, manifests: ManifestRegistry, builder: ImageBuilder) -> None:
        self._home = home
        self._models = models
        self._manifests = manifests
        self._builder = builder

    def steps(self) -> list[Step]:
        return [Step("test", self._test)]

    def _test(self, job: Job) -> dict[str, Any]:
        """`{"test": ...}`, see docs/architecture.md. A manifest that fails its test is a result, not an error."""
        if leftover := job.made.get("_replica"):
            end_leftover(leftover)
        manifest = self._manifests.get(Reference.parse("manifest", job.input["manifest"]))
        recipe = manifest.recipe
        place = self._builder.place(manifest, job.say)
        launch = Launch(
            service=manifest.name,
            revision=manifest.version,
            image_folder=place.folder,
            python=place.python,
            runtime_folder=place.runtime_folder,
            models=[(pin.name, pin.version) for pin in recipe.models],
            variables={**recipe.environment, **look_up(recipe.secrets, os.environ)},
        )

        def check() -> None:
            if job.stopping:
                raise Interrupted

        job.say(f"Starting a replica of {manifest.reference}")
        with Trial(self._home.run / "t", launch, Limits(), check) as trial:
            job.keep(_replica=trial.identity)
            tried = trial.ask(recipe.samples, recipe.schema is not None)
        job.keep(_replica=None)
        return {"manifest": manifest.reference, "test": self._report(manifest, tried)}

    def advice(self, manifest: Manifest, texts: Iterable[str]) -> list[str]:
        """Lines of the dependency file to change, by what a replica of the manifest complained of."""
        models = [
            (pin.reference, self._models.get(Reference(pin.name, pin.version)).inspection)
            for pin in manifest.recipe.models
        ]
        return advice(manifest.recipe, models, texts)

    def _report(self, manifest: Manifest, tried: Tried) -> dict[str, Any]:
        ok = not tried.failure and all(answer.ok for answer in tried.answers)
        lines = [line for line in tried.log if line.strip()]
        texts = [tried.failure, *(_text(line) for line in lines)]
        return {
            "ok": ok,
            "failure": tried.failure,
            "load_s": round(tried.load_s, 3),
            "answers": [{**encode(answer), "ok": answer.ok} for answer in tried.answers],
            "advice": self.advice(manifest, texts),
            "log": lines[-_SHOWN_LINES:],
        }


def _text(line: str) -> str:
    try:
        entry = json.loads(line)
        return f"{entry.get('message', '')}\n{entry.get('exception', '')}"
    except (ValueError, AttributeError, RecursionError):
        return line
