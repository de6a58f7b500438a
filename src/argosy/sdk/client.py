"""The blocking client: flows carried out over `http.client`."""

import functools
import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from argosy.errors import Error
from argosy.sdk import (
    control,
    environments,
    images,
    manifests,
    models,
    operations,
    registries,
    scoring,
    services,
    transfers,
)
from argosy.sdk.address import Address, locate
from argosy.sdk.transport import Transport
from argosy.sdk.wire import Flow, Response, Sleep, Step, method_signature

P = ParamSpec("P")
T = TypeVar("T")


class Group:
    """The calls of one noun."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _run(self, flow: Flow[T]) -> T:
        return carry_out(flow, self._step)

    def _step(self, step: Step) -> Response:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return Response(200)
        return self._transport.send(step)


def carry_out(flow: Flow[T], act: Callable[[Step], Response]) -> T:
    """Drive a flow to its end; an error of a step is raised inside the flow, which may know what to do."""
    try:
        step = next(flow)
        while True:
            try:
                response = act(step)
            except Error as problem:
                step = flow.throw(problem)
            else:
                step = flow.send(response)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        flow.close()


def blocking(flow: Callable[P, Flow[T]]) -> Callable[Concatenate[Group, P], T]:
    """A method that carries out the flow, with the flow's signature and docstring."""

    @functools.wraps(flow)
    def method(self: Group, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(flow(*args, **kwargs))

    method.__signature__ = method_signature(flow)  # type: ignore[attr-defined]
    return method


class Models(Group):
    register = blocking(models.register)
    list = blocking(models.list_all)
    versions = blocking(models.versions)
    show = blocking(models.show)
    tag = blocking(models.tag)
    alias = blocking(models.alias)
    unalias = blocking(models.unalias)
    download = blocking(models.download)
    delete = blocking(models.delete)


class Manifests(Group):
    create = blocking(manifests.create)
    list = blocking(manifests.list_all)
    versions = blocking(manifests.versions)
    show = blocking(manifests.show)
    script = blocking(manifests.script)
    test = blocking(manifests.trial)
    download = blocking(manifests.download)
    delete = blocking(manifests.delete)


class Images(Group):
    create = blocking(images.create)
    list = blocking(images.list_all)
    versions = blocking(images.versions)
    show = blocking(images.show)
    save = blocking(images.save)
    push = blocking(transfers.push)
    pull = blocking(transfers.pull)
    load = blocking(transfers.load)
    sbom = blocking(transfers.sbom)
    provenance = blocking(transfers.provenance)
    logs = blocking(images.logs)
    usage = blocking(images.usage)
    dockerfile = blocking(images.dockerfile)
    build_context = blocking(images.build_context)
    run = blocking(images.run)
    delete = blocking(images.delete)


class Registries(Group):
    login = blocking(registries.login)
    list = blocking(registries.list_all)
    logout = blocking(registries.logout)


class Environments(Group):
    create = blocking(environments.create)
    list = blocking(environments.list_all)
    show = blocking(environments.show)
    use = blocking(environments.use)
    check = blocking(environments.check)
    delete = blocking(environments.delete)


class Services(Group):
    create = blocking(services.create)
    update = blocking(services.update)
    list = blocking(services.list_all)
    show = blocking(services.show)
    scale = blocking(services.scale)
    tune = blocking(services.tune)
    tuning = blocking(services.tuning)
    delete = blocking(services.delete)
    history = blocking(services.history)
    rollback = blocking(services.rollback)
    keys = blocking(scoring.keys)
    regenerate_key = blocking(scoring.regenerate_key)
    usage = blocking(scoring.usage)
    run = blocking(scoring.run)
    wait = blocking(scoring.wait)

    def logs(
        self, name: str, *, lines: int | None = None, request_id: str | None = None, follow: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Log records of all replicas, oldest first; with `follow` the iterator goes on as they are written."""
        cutter = scoring.LogLines()
        for piece in self._transport.stream(scoring.log_request(name, lines, request_id, follow)):
            yield from cutter.feed(piece)
        yield from cutter.end()


class Operations(Group):
    list = blocking(operations.list_all)
    show = blocking(operations.show)
    wait = blocking(operations.wait)


class Client(Group):
    """Everything the control plane can do, by noun. Threads may share one. Close it, or use it in `with`.

    Calls for long work wait until it is done (`wait=False` answers the Operation at once) and raise its error.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        home: str | os.PathLike[str] | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._open(locate(url, token, home, ca_file))

    @classmethod
    def at(cls, address: Address) -> Self:
        """A client of an address that is known already."""
        client = cls.__new__(cls)
        client._open(address)
        return client

    def _open(self, address: Address) -> None:
        self.address = address
        super().__init__(Transport(address))
        self.models = Models(self._transport)
        self.manifests = Manifests(self._transport)
        self.images = Images(self._transport)
        self.registries = Registries(self._transport)
        self.environments = Environments(self._transport)
        self.services = Services(self._transport)
        self.operations = Operations(self._transport)

    status = blocking(control.status)
    doctor = blocking(control.doctor)
    gc = blocking(control.gc)
    shutdown = blocking(control.shutdown)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    url: str | None = None,
    token: str | None = None,
    home: str | os.PathLike[str] | None = None,
    ca_file: str | None = None,
) -> Client:
    """A client of the control plane that `argosy up` started, or of the one at `url`.

    Without arguments ARGOSY_URL and ARGOSY_TOKEN say which, else the files that it keeps in ARGOSY_HOME. Raises
    NotRunning when there is none.
    """
    return Client(url, token, home, ca_file)
