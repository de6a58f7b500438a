"""`argosy service create|update|scale|rollback|delete`."""

import argparse
from typing import Any

from argosy.cli import base_option, jobs, recipe_options
from argosy.cli.output import Block
from argosy.cli.parsing import UsageError
from argosy.cli.service_look import details
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.records import Operation, Service

# Fields of ServiceSettings that have an option of the same name.
_SETTINGS = (
    "max_concurrent_requests",
    "max_queued_requests",
    "max_queue_wait_ms",
    "request_timeout_ms",
    "max_body_bytes",
    "overload_status",
    "init_timeout_s",
    "cpu",
    "log_level",
    "public_docs",
    "autoscale_enabled",
    "min_replicas",
    "max_replicas",
    "target_utilization",
)
# Fields whose option says the unit in a word.
_IN_SECONDS = {
    "refresh_period_s": "refresh_period_seconds",
    "scale_down_delay_s": "scale_down_delay_seconds",
}
_IN_BYTES = {"memory_bytes": "memory"}


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The ones that were given."""
    options = {name: name for name in _SETTINGS} | _IN_SECONDS | _IN_BYTES
    return {name: value for name, option in options.items() if (value := getattr(args, option)) is not None}


def create_service(args: argparse.Namespace, session: Session) -> None:
    recipe = recipe_options.chosen(args)
    chosen = settings(args)
    if args.image is not None:
        # An image is frozen: variables given here are the service's own, laid over the manifest's.
        recipe |= {"variables": {}, "secrets": {}}
        chosen |= {key: value for key, value in (("environment", args.variable), ("secrets", args.secret)) if value}
    elif not recipe_options.says_what(args):
        raise UsageError("say what it runs: --image IMAGE, or a model (-m FILE or -i MODEL) with -f score.py.")
    jobs.run(
        session,
        _job(args, "create"),
        lambda progress: session.client.services.create(
            args.name,
            image=args.image,
            environment=args.env,
            base_image=base_option.absolute(args.base_image),
            replicas=args.replicas,
            settings=chosen,
            description=args.description,
            wait=args.wait,
            on_message=progress.message,
            on_progress=progress.bytes,
            **recipe,
        ),
        lambda operation: _deployed(args.name, session),
    )


def update_service(args: argparse.Namespace, session: Session) -> None:
    recipe = recipe_options.chosen(args, variables=False)
    chosen = settings(args)
    if args.variable or args.secret:
        now = session.client.services.show(args.name).settings
        chosen |= {"environment": now.environment | args.variable} if args.variable else {}
        chosen |= {"secrets": now.secrets | args.secret} if args.secret else {}
    jobs.run(
        session,
        _job(args, "update"),
        lambda progress: session.client.services.update(
            args.name,
            image=args.image,
            base_image=base_option.absolute(args.base_image),
            replicas=args.replicas,
            settings=chosen,
            description=args.description,
            wait=args.wait,
            on_message=progress.message,
            on_progress=progress.bytes,
            **recipe,
        ),
        lambda operation: _deployed(args.name, session),
    )


def scale_service(args: argparse.Namespace, session: Session) -> None:
    jobs.run(
        session,
        _job(args, "scale"),
        lambda progress: session.client.services.scale(
            args.name, args.replicas, wait=args.wait, on_message=progress.message
        ),
        lambda operation: _deployed(args.name, session),
    )


def roll_back(args: argparse.Namespace, session: Session) -> None:
    jobs.run(
        session,
        _job(args, "roll back"),
        lambda progress: session.client.services.rollback(
            args.name, args.to, wait=args.wait, on_message=progress.message
        ),
        lambda operation: _deployed(args.name, session),
    )


def delete_service(args: argparse.Namespace, session: Session) -> None:
    service = session.client.services.show(args.name)
    session.confirm(f"Delete service {service.name} ({service.replicas_ready} replicas)?", args.yes)

    def finished(operation: Operation) -> tuple[dict[str, str], list[Block]]:
        return {"deleted": service.name}, [f"service {service.name} is deleted"]

    jobs.run(
        session,
        jobs.Job(f"delete {service.name}", "argosy service list", args.wait),
        lambda progress: session.client.services.delete(args.name, wait=args.wait, on_message=progress.message),
        finished,
    )


def _job(args: argparse.Namespace, verb: str) -> jobs.Job:
    name = clean(args.name)
    return jobs.Job(f"{verb} {name}", f"argosy service show {name}", args.wait)


def _deployed(name: str, session: Session) -> tuple[Service, list[Block]]:
    service = session.client.services.show(name)
    return service, [details(service), "", f"Call it: argosy service run {name}   How: argosy service usage {name}"]
