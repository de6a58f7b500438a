"""`argosy service list|show|history|wait`."""

import argparse
from collections.abc import Sequence

from argosy.cli.output import Block, Pairs, Table
from argosy.cli.session import Session
from argosy.cli.text import clean, moment, size
from argosy.records import Service, ServiceSettings

_SHOWN_DECISIONS = 10


def list_services(args: argparse.Namespace, session: Session) -> None:
    services = session.client.services.list()
    session.show(services, lambda: [table(services)])


def show_service(args: argparse.Namespace, session: Session) -> None:
    service = session.client.services.show(args.name)

    def blocks() -> list[Block]:
        limits = _limits(service.settings, _batches(service, session))
        return [details(service), "", limits, *_replicas(service), *_scaling(service)]

    session.show(service, blocks)


def show_history(args: argparse.Namespace, session: Session) -> None:
    revisions = session.client.services.history(args.name)
    session.show(
        revisions,
        lambda: [
            Table(
                ("revision", "state", "image", "models", "created (UTC)", "live since (UTC)", "reason"),
                [
                    (r.number, r.state, r.image, ", ".join(r.models), moment(r.created_at), moment(r.live_at), r.reason)
                    for r in revisions
                ],
            )
        ],
    )


def wait_for_service(args: argparse.Namespace, session: Session) -> None:
    session.going_on = "The service is as it was; nothing was stopped."
    with session.progress(f"wait for {clean(args.name)}") as progress:
        service = session.client.services.wait(args.name, args.timeout_s, on_message=progress.message)
    session.show(service, lambda: [details(service)])


def table(services: Sequence[Service]) -> Table:
    return Table(
        ("name", "state", "replicas", "revision", "image", "env", "url", "reason"),
        [
            (
                s.name,
                s.state,
                f"{s.replicas_ready}/{s.replicas_wanted}",
                s.live_revision or "",
                s.image or "",
                s.environment,
                s.url,
                s.reason,
            )
            for s in services
        ],
        empty="No services yet. Make one: argosy service create NAME -m MODEL-FILE -f score.py",
    )


def details(service: Service) -> Pairs:
    rolling = service.target_revision if service.target_revision != service.live_revision else None
    return Pairs(
        (
            ("service", service.name),
            ("state", service.state),
            ("reason", service.reason),
            ("last failure", service.last_failure if service.last_failure not in service.reason else ""),
            ("description", service.description),
            ("environment", service.environment),
            ("replicas", _count(service)),
            ("revision", service.live_revision),
            ("rolling to", rolling),
            ("image", service.image),
            ("manifest", service.manifest),
            ("models", ", ".join(service.models)),
            ("scoring URL", service.scoring_url),
            ("swagger URL", service.swagger_url),
            ("docs URL", service.docs_url),
            ("created (UTC)", moment(service.created_at)),
            ("updated (UTC)", moment(service.updated_at)),
        )
    )


def _count(service: Service) -> str:
    settings = service.settings
    ready, wanted = service.replicas_ready, service.replicas_wanted
    # After an update of one that sleeps its new replica still runs for a while.
    count = f"{ready} of {wanted} ready" if ready <= wanted else f"{wanted} wanted, {ready} still ready"
    return (
        f"{count}, autoscaled {settings.min_replicas} to {settings.max_replicas}"
        if settings.autoscale_enabled
        else count
    )


def _scaling(service: Service) -> list[Block]:
    """The autoscaler's last decisions."""
    if not service.settings.autoscale_enabled:
        return []
    rows = [
        (moment(d.at), f"{d.before} -> {d.replicas}" if d.before != d.replicas else d.replicas, d.reason)
        for d in service.decisions[:_SHOWN_DECISIONS]
    ]
    return ["", Table(("decided (UTC)", "replicas", "why"), rows, empty="The autoscaler has not decided anything yet.")]


def _batches(service: Service, session: Session) -> str:
    """What the live manifest says of them; "" when they are off."""
    if service.manifest is None:
        return ""
    serving = session.client.manifests.show(service.manifest).recipe.serving
    size, delay_ms = serving.get("max_batch_size", 1), serving.get("max_batch_delay_ms", 0)
    if size <= 1:
        return ""
    return f"up to {size} rows, " + (f"waiting {delay_ms:g} ms for more" if delay_ms else "of what waits already")


def _limits(settings: ServiceSettings, batches: str) -> Pairs:
    return Pairs(
        (
            ("concurrent requests", f"{settings.max_concurrent_requests} a replica"),
            ("batches", batches),
            ("queued requests", f"{settings.max_queued_requests} a replica"),
            ("queue wait", f"{settings.max_queue_wait_ms} ms"),
            ("request timeout", f"{settings.request_timeout_ms} ms"),
            ("body", f"{settings.max_body_bytes} bytes"),
            ("cpu", settings.cpu),
            ("memory", size(settings.memory_bytes) if settings.memory_bytes is not None else ""),
            ("autoscale", _autoscale(settings) if settings.autoscale_enabled else "off"),
            ("public docs", "yes" if settings.public_docs else "no"),
            ("variables", ", ".join(f"{key}={value}" for key, value in settings.environment.items())),
            ("secrets", ", ".join(f"{key}={value}" for key, value in settings.secrets.items())),
        ),
        title="limits",
    )


def _autoscale(settings: ServiceSettings) -> str:
    return (
        f"{settings.min_replicas} to {settings.max_replicas} replicas, target {settings.target_utilization} %, "
        f"every {settings.refresh_period_s:g} s, down after {settings.scale_down_delay_s:g} s"
    )


def _replicas(service: Service) -> list[Block]:
    if not service.replicas:
        return []
    rows = [
        (r.id, r.revision, r.state, r.pid or "", moment(r.started_at), r.restarts, r.reason) for r in service.replicas
    ]
    return ["", Table(("replica", "revision", "state", "pid", "started (UTC)", "restarts", "reason"), rows)]
