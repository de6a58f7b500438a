"""`argosy model ...`."""

import argparse

from argosy.cli import parsing
from argosy.cli.output import Pairs, Table
from argosy.cli.parsing import Collect, Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean, moment, pairs, size
from argosy.cli.uses import uses
from argosy.records import Model, Reference

_REFERENCE = "NAME, NAME:VERSION or NAME@ALIAS"


def build(parser: Parser, name: str) -> None:
    group = parsing.commands(parser)
    _build_register(group)
    listing = leaf(
        group,
        "list",
        "List the latest version of every model.",
        list_models,
        ["argosy model list", "argosy model list -t stage=dev -o json"],
    )
    listing.add_argument("-t", "--tag", action=Collect, help="only models with this tag; repeatable")
    show = leaf(
        group,
        "show",
        "Show a model's versions, and what uses each.",
        show_model,
        ["argosy model show iris", "argosy model show iris:2", "argosy model show iris@production -o json"],
    )
    show.add_argument("reference", metavar="NAME[:VERSION|@ALIAS]", help="a name shows all its versions")
    _build_download(group)
    alias = leaf(
        group,
        "alias",
        "Point an alias at a version, or remove it.",
        set_alias,
        ["argosy model alias iris:2 production", "argosy model alias iris production --remove"],
    )
    alias.add_argument("reference", metavar="MODEL", help=_REFERENCE)
    alias.add_argument("alias", metavar="ALIAS", help="the alias, used as NAME@ALIAS")
    alias.add_argument("--remove", action="store_true", help="remove the alias instead")
    tag = leaf(
        group,
        "tag",
        "Change the tags, description and metrics of a version.",
        tag_model,
        [
            "argosy model tag iris:2 stage=prod owner=ann",
            "argosy model tag iris:2 --remove stage",
            "argosy model tag iris:2 --metric accuracy=0.97",
        ],
    )
    tag.add_argument("reference", metavar="MODEL", help=_REFERENCE)
    tag.add_argument("tags", nargs="*", metavar="K=V", help="tags to set")
    tag.add_argument("--remove", action="append", default=[], metavar="K", help="a tag to remove; repeatable")
    tag.add_argument("-d", "--description", metavar="TEXT", help="a new description")
    tag.add_argument("--metric", action=Collect, convert=float, help="a metric to set; repeatable")
    delete = leaf(
        group,
        "delete",
        "Delete a version that nothing uses.",
        delete_model,
        ["argosy model delete iris:1", "argosy model delete iris@old --yes"],
    )
    delete.add_argument("reference", metavar="MODEL", help="NAME:VERSION or NAME@ALIAS")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def _build_register(group: "argparse._SubParsersAction[Parser]") -> None:
    register = leaf(
        group,
        "register",
        "Register a file, a folder or a URL as the next version of a model.",
        register_model,
        [
            "argosy model register iris.pkl -n iris -t stage=dev",
            "argosy model register saved_model/ -n flowers --metric accuracy=0.97",
            "argosy model register https://example.com/iris.onnx -n iris",
        ],
        "Versions are never overwritten: the same name again makes the next version.",
    )
    parsing.file_argument(register.add_argument("path", metavar="PATH|URL", help="what to register"))
    register.add_argument("-n", "--name", required=True, help="the model's name: 1-63 of a-z, 0-9, '.' and '-'")
    register.add_argument("-t", "--tag", action=Collect, help="a tag; repeatable")
    register.add_argument("-d", "--description", default="", metavar="TEXT", help="what it is")
    register.add_argument("--metric", action=Collect, convert=float, help="a metric, such as accuracy=0.97; repeatable")
    register.add_argument("--unpack", action="store_true", help="unpack an archive (zip, tar) into a folder")


def _build_download(group: "argparse._SubParsersAction[Parser]") -> None:
    download = leaf(
        group,
        "download",
        "Fetch a model's files, verified by their digests.",
        download_model,
        ["argosy model download iris:2", "argosy model download iris@production --target /srv/models"],
    )
    download.add_argument("reference", metavar="MODEL", help=_REFERENCE)
    parsing.file_argument(download.add_argument("--target", default=".", metavar="DIR", help="folder to put them into"))
    download.add_argument("--overwrite", action="store_true", help="replace files that are there")


def register_model(args: argparse.Namespace, session: Session) -> None:
    with session.progress(f"register {clean(args.name)}") as progress:
        model = session.client.models.register(
            args.path,
            args.name,
            tags=args.tag,
            description=args.description,
            metrics=args.metric,
            unpack=args.unpack,
            on_progress=progress.bytes,
            on_message=progress.message,
        )
    session.show(model, lambda: [_details(model)])
    for finding in model.inspection.findings:
        session.tell(f"warning: {clean(finding)}")


def list_models(args: argparse.Namespace, session: Session) -> None:
    models = session.client.models.list(tags=args.tag)
    session.show(models, lambda: [_table(models)])


def show_model(args: argparse.Namespace, session: Session) -> None:
    reference = Reference.parse("model", args.reference)
    if reference.version is not None or reference.alias is not None:
        model = session.client.models.show(args.reference)
        session.show(model, lambda: [_details(model), _files(model)])
        return
    versions = session.client.models.versions(reference.name)
    session.show(versions, lambda: [_details(versions[0]), "", _versions(versions)] if versions else [])


def download_model(args: argparse.Namespace, session: Session) -> None:
    with session.progress(f"download {clean(args.reference)}") as progress:
        made = session.client.models.download(
            args.reference, args.target, overwrite=args.overwrite, on_progress=progress.bytes
        )
    session.show([str(path) for path in made], lambda: [clean(path) for path in made])


def set_alias(args: argparse.Namespace, session: Session) -> None:
    if args.remove:
        name = Reference.parse("model", args.reference).name
        session.client.models.unalias(name, args.alias)
        session.show({"model": name, "removed": args.alias}, lambda: [f"{name}@{args.alias} is removed"])
        return
    model = session.client.models.alias(args.reference, args.alias)
    session.show(model, lambda: [f"{model.name}@{args.alias} is {model.reference}"])


def tag_model(args: argparse.Namespace, session: Session) -> None:
    tags: dict[str, str | None] = dict.fromkeys(args.remove)
    for item in args.tags:
        key, mark, value = item.partition("=")
        if not mark or not key:
            raise parsing.UsageError(f"{item!r} is no tag: write KEY=VALUE, or --remove KEY.")
        tags[key] = value
    if not (tags or args.metric or args.description is not None):
        raise parsing.UsageError("nothing to change was given. See `argosy model tag --help`.")
    model = session.client.models.tag(args.reference, tags, description=args.description, metrics=args.metric or None)
    session.show(model, lambda: [_details(model)])


def delete_model(args: argparse.Namespace, session: Session) -> None:
    model = session.client.models.show(args.reference)
    parsed = Reference.parse("model", args.reference)
    exact = parsed.version is not None or parsed.alias is not None
    if exact:
        session.confirm(f"Delete model {model.reference} ({size(model.size_bytes)})?", args.yes)
    session.client.models.delete(model.reference if exact else args.reference)
    session.show({"deleted": model.reference}, lambda: [f"model {model.reference} is deleted"])


def _table(models: list[Model]) -> Table:
    return Table(
        ("name", "version", "kind", "size", "created (UTC)", "aliases", "tags", "description"),
        [
            (
                m.name,
                m.version,
                m.kind,
                size(m.size_bytes),
                moment(m.created_at),
                ", ".join(m.aliases),
                pairs({**m.tags}),
                m.description,
            )
            for m in models
        ],
        empty="No models yet. Register one: argosy model register FILE -n NAME",
    )


def _versions(models: list[Model]) -> Table:
    return Table(
        ("version", "size", "created (UTC)", "aliases", "tags", "metrics", "used by"),
        [
            (
                m.version,
                size(m.size_bytes),
                moment(m.created_at),
                ", ".join(m.aliases),
                pairs({**m.tags}),
                pairs({**m.metrics}),
                uses(m.used_by),
            )
            for m in models
        ],
        title="versions",
    )


def _details(model: Model) -> Pairs:
    seen = model.inspection
    framework = " ".join(part for part in (seen.framework, seen.framework_version) if part)
    return Pairs(
        (
            ("model", model.reference),
            ("description", model.description),
            ("kind", model.kind),
            ("format", f"{seen.format} ({framework})" if framework else seen.format),
            ("size", size(model.size_bytes)),
            ("files", len(model.files)),
            ("digest", model.digest),
            ("created (UTC)", moment(model.created_at)),
            ("source", model.source),
            ("aliases", ", ".join(model.aliases)),
            ("tags", pairs({**model.tags})),
            ("metrics", pairs({**model.metrics})),
            ("findings", "; ".join(seen.findings)),
            ("used by", uses(model.used_by)),
        )
    )


def _files(model: Model) -> Table:
    return Table(("file", "size", "sha256"), [(f.path, size(f.size_bytes), f.sha256) for f in model.files])
