"""`argosy manifest ...`."""

import argparse

from argosy.cli import jobs, manifest_test, parsing, recipe_options
from argosy.cli.output import Block, Pairs, Table
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean, moment, size
from argosy.cli.uses import uses
from argosy.records import Manifest, Operation, Reference


def build(parser: Parser, name: str) -> None:
    group = parsing.commands(parser)
    create = leaf(
        group,
        "create",
        "Freeze a recipe: models, script, dependencies and their lock, schema.",
        create_manifest,
        [
            "argosy manifest create -n iris -i iris:1 -f score.py -c conda.yml -s schema.json",
            "argosy manifest create -n iris -m iris.pkl -f score.py -p requirements.txt -r python:3.12",
            "argosy manifest create -n iris -m iris.onnx         # script and schema are generated",
            "argosy manifest create --from iris:1 -i iris:2     # the same recipe with a new model",
        ],
        "What is not given is inferred where it can be: a sample from the schema, dependencies from the script's "
        "imports\nand from the model; script and schema too for a model that tells what it is and takes.",
    )
    create.add_argument("-n", "--name", help="the manifest's name; with --from, that one's name by default")
    create.add_argument("--description", default="", metavar="TEXT", help="what it is")
    recipe_options.add(create, registered_as="under the manifest's name (several: NAME-<file name>)")
    parsing.wait_option(create, "the dependencies are resolved")
    leaf(group, "list", "List the latest version of every manifest.", list_manifests, ["argosy manifest list"])
    show = leaf(
        group,
        "show",
        "Show a manifest: its recipe, its lock, what uses it.",
        show_manifest,
        [
            "argosy manifest show iris",
            "argosy manifest show iris:2 -o yaml",
            "argosy manifest show iris --script > score.py",
            "argosy manifest show iris --lock > requirements.lock",
        ],
    )
    show.add_argument("reference", metavar="NAME[:VERSION]", help="a name shows the latest version")
    only = show.add_mutually_exclusive_group()
    only.add_argument("--script", action="store_true", help="print the scoring script and nothing else")
    only.add_argument("--lock", action="store_true", help="print the lock, a requirements file with hashes")
    manifest_test.build(group)
    delete = leaf(
        group, "delete", "Delete a version that nothing uses.", delete_manifest, ["argosy manifest delete iris:1 --yes"]
    )
    delete.add_argument("reference", metavar="NAME:VERSION", help="the version to delete")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def create_manifest(args: argparse.Namespace, session: Session) -> None:
    name = args.name or (Reference.parse("manifest", args.base).name if args.base else None)
    if name is None:
        raise parsing.UsageError("-n NAME is missing. See `argosy manifest create --help`.")
    recipe = recipe_options.chosen(args)

    def finished(operation: Operation) -> tuple[Manifest, list[Block]]:
        manifest = session.client.manifests.show(str(operation.result["manifest"]))
        return manifest, [_details(manifest)]

    jobs.run(
        session,
        jobs.Job(f"manifest {clean(name)}", f"argosy manifest show {clean(name)}", args.wait),
        lambda progress: session.client.manifests.create(
            name,
            description=args.description,
            wait=args.wait,
            on_message=progress.message,
            on_progress=progress.bytes,
            **recipe,
        ),
        finished,
    )


def list_manifests(args: argparse.Namespace, session: Session) -> None:
    manifests = session.client.manifests.list()
    session.show(
        manifests,
        lambda: [
            Table(
                ("name", "version", "runtime", "models", "packages", "created (UTC)", "description"),
                [
                    (
                        m.name,
                        m.version,
                        m.recipe.runtime,
                        ", ".join(p.reference for p in m.recipe.models),
                        len(m.recipe.lock.packages),
                        moment(m.created_at),
                        m.description,
                    )
                    for m in manifests
                ],
                empty="No manifests yet. Make one: argosy manifest create -n NAME -i MODEL -f score.py",
            )
        ],
    )


def show_manifest(args: argparse.Namespace, session: Session) -> None:
    manifest = session.client.manifests.show(args.reference)
    if args.script or args.lock:
        text = session.client.manifests.script(manifest.reference) if args.script else _lock_text(manifest)
        print(text, end="", file=session.stdout)
        return
    session.show(manifest, lambda: [_details(manifest), "", _files(manifest), "", _packages(manifest)])


def delete_manifest(args: argparse.Namespace, session: Session) -> None:
    manifest = session.client.manifests.show(args.reference)
    if Reference.parse("manifest", args.reference).version is not None:
        session.confirm(f"Delete manifest {manifest.reference}?", args.yes)
    session.client.manifests.delete(args.reference)
    session.show({"deleted": manifest.reference}, lambda: [f"manifest {manifest.reference} is deleted"])


def _details(manifest: Manifest) -> Pairs:
    recipe = manifest.recipe
    inputs = ", ".join((recipe.schema or {}).get("input", {}))
    return Pairs(
        (
            ("manifest", manifest.reference),
            ("description", manifest.description),
            ("digest", manifest.digest),
            ("created (UTC)", moment(manifest.created_at)),
            ("runtime", f"{recipe.runtime} ({recipe.lock.python})"),
            ("script", recipe.script),
            ("models", ", ".join(pin.reference for pin in recipe.models)),
            ("inputs", inputs),
            ("samples", len(recipe.samples)),
            ("packages", len(recipe.lock.packages)),
            ("conda channels", ", ".join(recipe.lock.channels)),
            ("environment", ", ".join(f"{k}={v}" for k, v in recipe.environment.items())),
            ("secrets", ", ".join(f"{k}={v}" for k, v in recipe.secrets.items())),
            ("inferred", "; ".join(recipe.inferred)),
            ("notes", "; ".join(manifest.notes)),
            ("used by", uses(manifest.used_by)),
        )
    )


def _lock_text(manifest: Manifest) -> str:
    """The requirements with hashes, and before them, as comments, what conda installs."""
    conda = [
        f"# {environment.platform} {package.url} sha256:{package.sha256}\n"
        for environment in manifest.recipe.lock.conda
        for package in environment.packages
    ]
    return "".join(conda) + manifest.recipe.lock.text


def _files(manifest: Manifest) -> Table:
    return Table(("file", "size", "sha256"), [(f.path, size(f.size_bytes), f.sha256) for f in manifest.recipe.files])


def _packages(manifest: Manifest) -> Table:
    return Table(("package", "version"), list(manifest.recipe.lock.packages.items()), title="lock")
