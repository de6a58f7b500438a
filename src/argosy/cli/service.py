"""`argosy service ...`: commands and options. They are done in `service_change`, `service_look`, `service_call`."""

import argparse

from argosy.cli import base_option, parsing, recipe_options, service_call, service_change, service_look, service_tune
from argosy.cli.parsing import Parser, cores, leaf, log_level, memory, natural, overload_status, positive, truth

_SETTINGS = (
    ("--max-concurrent-requests", positive, "N", "requests that a replica works on at once (1)"),
    ("--max-queued-requests", natural, "N", "requests that wait in a replica before it sheds (10)"),
    ("--max-queue-wait-ms", natural, "MS", "longest wait in that queue, in milliseconds (500)"),
    ("--request-timeout-ms", positive, "MS", "longest time for one request, in milliseconds (60000)"),
    ("--max-body-bytes", positive, "BYTES", "largest body of a request, decompressed (20000000)"),
    ("--overload-status", overload_status, "429|503", "what a refused request is answered with (429)"),
    ("--init-timeout-s", positive, "S", "longest time until a replica is ready, in seconds (600)"),
    ("--cpu", cores, "CORES", "a replica's share of the machine, such as 0.5 (one core a concurrent request)"),
    ("--memory", memory, "SIZE", "most memory of a replica, such as 512M or 2G; in containers only (no limit)"),
    ("--log-level", log_level, "LEVEL", "debug, info, warning or error: the least that is logged (info)"),
    ("--public-docs", truth, "true|false", "show swagger.json and the docs page without a key (false)"),
)

_AUTOSCALE = (
    ("--autoscale-enabled", truth, "true|false", "let Argosy set the number of replicas (false)"),
    ("--min-replicas", natural, "N", "fewest replicas; 0: sleep when idle, the next request waits for a start (1)"),
    ("--max-replicas", positive, "N", "most replicas (10)"),
    ("--target-utilization", positive, "PERCENT", "how much of the replicas' slots should be in use (70)"),
    ("--refresh-period-seconds", positive, "S", "how often it decides (1)"),
    ("--scale-down-delay-seconds", positive, "S", "how long replicas are kept that are not needed (60)"),
)


def build(parser: Parser, name: str) -> None:
    group = parsing.commands(parser)
    _build_create(group)
    _build_update(group)
    leaf(group, "list", "List the services.", service_look.list_services, ["argosy service list"])
    _named(
        leaf(
            group,
            "show",
            "Show a service: its state and why, its replicas, what it was made of.",
            service_look.show_service,
            ["argosy service show iris", "argosy service show iris -o json"],
        )
    )
    _build_calls(group)
    service_tune.build(group)
    _named(
        leaf(
            group, "history", "List a service's revisions.", service_look.show_history, ["argosy service history iris"]
        )
    )
    rollback = _named(
        leaf(
            group,
            "rollback",
            "Go back to an earlier revision, without losing a request.",
            service_change.roll_back,
            ["argosy service rollback iris", "argosy service rollback iris --to 3"],
        )
    )
    rollback.add_argument("--to", type=positive, metavar="REV", help="the revision; the one live before by default")
    parsing.wait_option(rollback, "it is live")
    scale = _named(
        leaf(
            group,
            "scale",
            "Change the number of replicas.",
            service_change.scale_service,
            ["argosy service scale iris -z 3"],
        )
    )
    scale.add_argument("-z", "--replicas", type=natural, required=True, metavar="N", help="how many")
    parsing.wait_option(scale, "they are ready")
    wait = _named(
        leaf(
            group,
            "wait",
            "Wait until a service is healthy.",
            service_look.wait_for_service,
            ["argosy service wait iris --timeout-s 60"],
        )
    )
    wait.add_argument(
        "--timeout-s", type=positive, default=600, metavar="S", help="give up after so many seconds (600)"
    )
    delete = _named(
        leaf(
            group,
            "delete",
            "Stop and delete a service; its models, manifest and image stay.",
            service_change.delete_service,
            ["argosy service delete iris --yes"],
        )
    )
    delete.add_argument("--yes", action="store_true", help="do not ask")
    parsing.wait_option(delete, "its replicas have stopped")


def _build_create(group: "argparse._SubParsersAction[Parser]") -> None:
    create = _named(
        leaf(
            group,
            "create",
            "Deploy an image as a service; or register, freeze, build and deploy in one go.",
            service_change.create_service,
            [
                "argosy service create iris --image iris:1 -z 2",
                "argosy service create iris -m iris.pkl -f score.py -c conda.yml -s schema.json",
                "argosy service create iris -i iris@production -f score.py -p requirements.txt --no-wait",
                "argosy service create iris --image iris:1 --autoscale-enabled true --min-replicas 0 --max-replicas 4",
                "argosy service create iris --image iris:1 --env box --base oci:/srv/bases/python:3.12 --memory 512M",
            ],
            "What is made on the way takes the service's name. A model file whose content is the latest version of\n"
            "its model is not registered again.",
        )
    )
    create.add_argument("--image", metavar="IMAGE", help="NAME or NAME:VERSION of an image")
    create.add_argument("--env", metavar="ENV", help="the environment to run in (that of `argosy env use`, else local)")
    base_option.add(create)
    create.add_argument("-z", "--replicas", type=natural, metavar="N", help="number of replicas (1)")
    create.add_argument("--description", default="", metavar="TEXT", help="what it is")
    _add_settings(create)
    recipe_options.add(create, registered_as="under the service's name (several: NAME-<file name>)")
    parsing.wait_option(create, "it is healthy")


def _build_update(group: "argparse._SubParsersAction[Parser]") -> None:
    update = _named(
        leaf(
            group,
            "update",
            "Change a service without losing a request: same URL, same keys.",
            service_change.update_service,
            [
                "argosy service update iris -m new.pkl                 # the live recipe with a new model",
                "argosy service update iris -i iris@production",
                "argosy service update iris --image iris:4",
                "argosy service update iris -f score.py --max-queued-requests 50",
            ],
            "-m registers the next version of the one model that the live revision uses. Recipe options are laid over\n"
            "the live manifest. A revision that does not become ready leaves the old one serving.",
        )
    )
    update.add_argument("--image", metavar="IMAGE", help="NAME or NAME:VERSION of an image")
    base_option.add(update)
    update.add_argument("-z", "--replicas", type=natural, metavar="N", help="number of replicas")
    update.add_argument("--description", metavar="TEXT", help="what it is")
    _add_settings(update)
    recipe_options.add(update, registered_as="as the next version of the model in use", variables=False)
    recipe_options.add_variables(update)
    parsing.wait_option(update, "it is live")


def _build_calls(group: "argparse._SubParsersAction[Parser]") -> None:
    run = _named(
        leaf(
            group,
            "run",
            "Score a request through the gateway, with the service's key.",
            service_call.run_service,
            [
                "argosy service run iris                     # the stored sample",
                """argosy service run iris -d '{"input_df": [{"sepal length": 3.0}]}'""",
                "argosy service run iris -d @request.json",
                "cat request.json | argosy service run iris -d -",
            ],
        )
    )
    run.add_argument("-d", "--data", metavar="JSON|@FILE|-", help="the request's body; the stored sample by default")
    run.add_argument("--content-type", metavar="TYPE", help="of the body (application/json)")
    _named(
        leaf(
            group,
            "usage",
            "Print how to call a service, with a curl line to paste.",
            service_call.show_usage,
            ["argosy service usage iris"],
        )
    )
    keys = _named(
        leaf(
            group,
            "keys",
            "Print a service's two keys, or make one anew.",
            service_call.show_keys,
            [
                "argosy service keys iris",
                "argosy service keys iris --show primary",
                "argosy service keys iris --regenerate secondary",
            ],
        )
    )
    which = keys.add_mutually_exclusive_group()
    which.add_argument("--show", choices=("primary", "secondary"), help="print that key alone")
    which.add_argument("--regenerate", choices=("primary", "secondary"), help="make that key anew")
    logs = _named(
        leaf(
            group,
            "logs",
            "Print what the replicas logged.",
            service_call.show_logs,
            [
                "argosy service logs iris -n 20",
                "argosy service logs iris -f",
                "argosy service logs iris -r 7f1c2a -o json",
            ],
        )
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing what is logged")
    logs.add_argument("-r", "--request-id", metavar="ID", help="only the lines of that request")
    logs.add_argument("-n", "--lines", type=positive, default=100, metavar="N", help="how many of the last lines (100)")


def _named(parser: Parser) -> Parser:
    parser.add_argument("name", metavar="NAME", help="the service's name")
    return parser


def _add_settings(parser: Parser) -> None:
    group = parser.add_argument_group("limits and switches")
    for flag, kind, metavar, text in _SETTINGS:
        group.add_argument(flag, type=kind, metavar=metavar, help=text)
    group = parser.add_argument_group("autoscale")
    for flag, kind, metavar, text in _AUTOSCALE:
        group.add_argument(flag, type=kind, metavar=metavar, help=text)
