"""`argosy image ...`."""

import argparse

from argosy.cli import (
    base_option,
    image_dockerfile,
    image_login,
    image_logs,
    image_run,
    image_show,
    image_transfer,
    image_usage,
    jobs,
    parsing,
    recipe_options,
)
from argosy.cli.output import Block, Table
from argosy.cli.parsing import Parser, leaf
from argosy.cli.session import Session
from argosy.cli.text import clean, moment
from argosy.records import Image, Operation, Reference


def build(parser: Parser, name: str) -> None:
    group = parsing.commands(parser)
    create = leaf(
        group,
        "create",
        "Make what runs: the plan of an image, and its isolated environment.",
        create_image,
        [
            "argosy image create -n iris --manifest iris:1",
            "argosy image create -n iris -m iris.pkl -f score.py -c conda.yml -s schema.json",
            "argosy image create -n iris --manifest iris:1 --builder oci --base oci:/srv/bases/python:3.12 "
            "--platform linux/amd64,linux/arm64",
            "argosy image create -n iris --manifest iris:1 --builder docker --base python:3.12-slim "
            "--docker-steps steps.txt",
        ],
        "From a manifest, or from the options that make one. Images of the same lock and Python share an environment.\n"
        "With --builder oci, an OCI image that runs anywhere, made without a container engine. With --builder docker "
        "the steps\nof a file run on the base before, such as RUN apt-get install -y libgomp1.",
    )
    create.add_argument("-n", "--name", required=True, help="the image's name")
    create.add_argument("--manifest", metavar="MANIFEST", help="NAME or NAME:VERSION of a manifest")
    create.add_argument("--description", default="", metavar="TEXT", help="what it is")
    _container_options(create)
    recipe_options.add(create, registered_as="under the image's name (several: NAME-<file name>)")
    parsing.wait_option(create, "the environment is ready")
    leaf(group, "list", "List the latest version of every image.", list_images, ["argosy image list"])
    image_show.build(group)
    save = leaf(
        group,
        "save",
        "Write an OCI image as one file that podman load and docker load accept.",
        save_image,
        ["argosy image save iris -f iris.tar", "argosy image save iris:2 -f iris.tar --platform linux/arm64"],
    )
    save.add_argument("reference", metavar="NAME[:VERSION]", help="a name means the latest version")
    parsing.file_argument(save.add_argument("-f", "--file", required=True, metavar="FILE", help="the file to write"))
    save.add_argument("--platform", metavar="OS/ARCH", help="which platform, when it was built for several")
    save.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    delete = leaf(
        group, "delete", "Delete a version that no service uses.", delete_image, ["argosy image delete iris:1 --yes"]
    )
    delete.add_argument("reference", metavar="NAME:VERSION", help="the version to delete")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    image_transfer.build(group)
    image_logs.build(group)
    image_usage.build(group)
    image_dockerfile.build(group)
    image_run.build(group)
    image_login.build(group)


def _container_options(create: Parser) -> None:
    group = create.add_argument_group("the container")
    group.add_argument(
        "--builder",
        choices=("oci", "docker"),
        help="oci: an OCI image instead of an environment here, also meant by --base and --platform; docker: the same, "
        "with steps that a container engine runs on the base before",
    )
    base_option.add(group)
    group.add_argument(
        "--platform",
        type=lambda text: text.split(","),
        default=[],
        metavar="OS/ARCH,...",
        help="linux/amd64, linux/arm64 or both (the control plane's own)",
    )
    steps = group.add_argument(
        "--docker-steps", metavar="FILE", help="RUN, ENV, ARG, LABEL, EXPOSE and COPY for --builder docker"
    )
    parsing.file_argument(steps)
    group.add_argument("--fresh", action="store_true", help="run also the steps that an earlier build has kept")


def create_image(args: argparse.Namespace, session: Session) -> None:
    recipe = recipe_options.chosen(args)
    if args.manifest is None and not recipe_options.says_what(args):
        raise parsing.UsageError("say what it is made of: --manifest MANIFEST, or -f score.py and further options.")

    def finished(operation: Operation) -> tuple[Image, list[Block]]:
        image = session.client.images.show(str(operation.result["image"]))
        return image, [image_show.details(image)]

    jobs.run(
        session,
        jobs.Job(f"image {clean(args.name)}", f"argosy image show {clean(args.name)}", args.wait),
        lambda progress: session.client.images.create(
            args.name,
            manifest=args.manifest,
            description=args.description,
            builder=args.builder,
            base_image=base_option.absolute(args.base_image),
            platforms=args.platform,
            docker_steps=args.docker_steps,
            fresh=args.fresh,
            wait=args.wait,
            on_message=progress.message,
            on_progress=progress.bytes,
            **recipe,
        ),
        finished,
    )


def list_images(args: argparse.Namespace, session: Session) -> None:
    images = session.client.images.list()
    session.show(
        images,
        lambda: [
            Table(
                ("name", "version", "state", "manifest", "models", "created (UTC)", "description"),
                [
                    (
                        i.name,
                        i.version,
                        i.state,
                        i.manifest or f"from {i.source}",
                        ", ".join(pin.reference for pin in i.models),
                        moment(i.created_at),
                        i.description,
                    )
                    for i in images
                ],
                empty="No images yet. Make one: argosy image create -n NAME --manifest MANIFEST",
            )
        ],
    )


def save_image(args: argparse.Namespace, session: Session) -> None:
    with session.progress(f"save {clean(args.reference)}") as progress:
        path = session.client.images.save(
            args.reference, args.file, platform=args.platform, overwrite=args.overwrite, on_progress=progress.bytes
        )
    session.show({"saved": str(path)}, lambda: [clean(path)])


def delete_image(args: argparse.Namespace, session: Session) -> None:
    image = session.client.images.show(args.reference)
    if Reference.parse("image", args.reference).version is not None:
        session.confirm(f"Delete image {image.reference}?", args.yes)
    session.client.images.delete(args.reference)
    session.show({"deleted": image.reference}, lambda: [f"image {image.reference} is deleted"])
