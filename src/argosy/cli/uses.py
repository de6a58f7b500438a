"""Who uses a version, in one cell."""

from argosy.records import Usage


def uses(usage: Usage) -> str:
    """`service iris (iris/2), image iris:1`; revisions stand in brackets behind their service."""
    services = [
        f"service {name}" + (f" ({', '.join(own)})" if (own := _of(name, usage.revisions)) else "")
        for name in usage.services
    ]
    named = set(usage.services)
    past = [f"revision {revision}" for revision in usage.revisions if revision.rpartition("/")[0] not in named]
    return ", ".join(
        [*services, *past, *(f"image {name}" for name in usage.images), *(f"manifest {m}" for m in usage.manifests)]
    )


def _of(service: str, revisions: list[str]) -> list[str]:
    return [revision for revision in revisions if revision.rpartition("/")[0] == service]
