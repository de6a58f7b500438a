"""A service as users see it: what is wanted, what is seen and the whole lineage in one record."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from argosy.environments.target import Observed
from argosy.records import Image, Replica, Revision, ScalingDecision, Service, ServiceUsage
from argosy.services.condition import Condition
from argosy.services.stored import Stored


def service_record(
    stored: Stored,
    condition: Condition,
    observed: Sequence[Observed],
    revision: Revision | None,
    image: Image | None,
    gateway_url: str,
    decisions: Sequence[ScalingDecision] = (),
    last_failure: str = "",
) -> Service:
    """`revision` and `image` are the live ones, or the target's while nothing is live. `last_failure` is why
    a replica or rollout failed lately."""
    url = f"{gateway_url}/api/v1/service/{stored.name}"
    replicas = [_replica(one) for one in sorted(observed, key=lambda o: (o.revision, o.started_at, o.id))]
    return Service(
        name=stored.name,
        environment=stored.environment,
        state=condition.state,
        reason=condition.reason,
        url=f"{url}/",
        scoring_url=f"{url}/score",
        swagger_url=f"{url}/swagger.json",
        docs_url=f"{url}/docs",
        replicas_wanted=stored.wanted,
        replicas_ready=sum(1 for r in replicas if r.state == "ready" and r.revision == stored.live_revision),
        live_revision=stored.live_revision,
        target_revision=stored.target_revision,
        settings=stored.settings,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        etag=stored.etag,
        replicas=replicas,
        revision=revision,
        image=revision.image if revision else None,
        manifest=(image.manifest or None) if image else None,
        models=list(revision.models) if revision else [],
        description=stored.description,
        decisions=list(decisions),
        last_failure=last_failure,
    )


def usage_record(service: Service, sample: Any, ca_file: str | None) -> ServiceUsage:
    """How to call it. The `curl` line takes the key from the CLI, so that no key lands in a shell's history."""
    body = json.dumps(sample if sample is not None else {"your": "input"})
    key = f"$(argosy service keys {service.name} --show primary)"
    trust = f"--cacert {shlex.quote(ca_file)} " if ca_file and service.url.startswith("https") else ""
    return ServiceUsage(
        name=service.name,
        scoring_url=service.scoring_url,
        swagger_url=service.swagger_url,
        docs_url=service.docs_url,
        headers={"Content-Type": "application/json", "Authorization": "Bearer <key>"},
        sample=sample,
        curl=(
            f'curl {trust}-H "Authorization: Bearer {key}" -H "Content-Type: application/json" '
            f"--data {shlex.quote(body)} {service.scoring_url}"
        ),
        cli=f"argosy service run {service.name}" + (f" -d {shlex.quote(body)}" if sample is not None else ""),
        keys_command=f"argosy service keys {service.name}",
        logs_command=f"argosy service logs {service.name}",
        ca_file=ca_file,
    )


def _replica(one: Observed) -> Replica:
    state = {"gone": "failed" if one.failure else "stopped"}.get(one.state, one.state)
    return Replica(one.id, one.service, one.revision, state, one.pid, one.failure or one.reason, one.started_at)
