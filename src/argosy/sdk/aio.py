"""The asynchronous client: the same flows carried out over httpx, which only this module imports."""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from argosy.errors import ConnectionLost, Error, InvalidFile
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
from argosy.sdk.address import Address, check_url, locate
from argosy.sdk.transport import tls_context, translate, unreachable
from argosy.sdk.wire import CHUNK_BYTES, Flow, Request, Response, Sleep, Step, check, method_signature

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTransport:
    """Owns one httpx client per certificate authority, and one for plain HTTP; they are made on first use."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._clients: dict[tuple[str | None, bool], httpx.AsyncClient] = {}

    async def send(self, request: Request) -> Response:
        """The answer, whatever its status; errors as those of Transport.send."""
        try:
            return await self._send_once(request)
        except ConnectionLost:
            if not request.safe_to_repeat:
                raise
        return await self._send_once(request)

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a 2xx answer as it comes in."""
        try:
            async with self._open(request) as answer:
                if not 200 <= answer.status_code < 300:
                    check(_response(answer, await answer.aread()))
                async for piece in answer.aiter_bytes():
                    yield piece
        except httpx.HTTPError as problem:
            raise self._translate(request, problem) from problem

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def _send_once(self, request: Request) -> Response:
        try:
            async with self._open(request) as answer:
                if request.sink is None or not 200 <= answer.status_code < 300:
                    return _response(answer, await answer.aread())
                async for piece in answer.aiter_bytes(CHUNK_BYTES):
                    await asyncio.to_thread(request.sink, piece)
                return _response(answer, b"")
        except httpx.HTTPError as problem:
            raise self._translate(request, problem) from problem

    def _open(self, request: Request) -> Any:
        client = self._client(request.ca_file or self._address.ca_file, self._url(request))
        headers = request.all_headers(self._address.token)
        content: bytes | AsyncIterator[bytes] | None = request.body()
        if request.upload is not None:
            try:
                headers["Content-Length"] = str(request.upload.stat().st_size)
            except OSError as problem:
                raise InvalidFile(request.upload, f"cannot be read: {problem.strerror}") from problem
            content = _pieces(request)
        timeout = httpx.Timeout(request.timeout_s, connect=10.0)
        return client.stream(request.method, self._url(request), content=content, headers=headers, timeout=timeout)

    def _client(self, ca_file: str | None, url: str) -> httpx.AsyncClient:
        encrypted = url.startswith("https:")
        key = ca_file if encrypted else None, encrypted
        if key not in self._clients:
            # Proxies of the environment are left aside, as the blocking client does: the control plane is near.
            # Without TLS no context is made, which would read all of the system's authorities.
            verify = tls_context(ca_file) if encrypted else False
            self._clients[key] = httpx.AsyncClient(verify=verify, trust_env=False, follow_redirects=False)
        return self._clients[key]

    def _url(self, request: Request) -> str:
        return check_url(request.target) if request.external else self._address.url + request.target

    def _translate(self, request: Request, problem: httpx.HTTPError) -> Error:
        url = httpx.URL(self._url(request))
        where = f"{url.scheme}://{url.netloc.decode('ascii')}"
        if isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout):
            return unreachable(request, where)
        if isinstance(problem, httpx.TimeoutException):
            return translate(request, where, TimeoutError())
        return translate(request, where, problem)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    assert request.upload is not None
    sent = 0
    with request.upload.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield piece
            sent += len(piece)
            if request.on_sent:
                request.on_sent(sent)


def _response(answer: httpx.Response, content: bytes) -> Response:
    return Response(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, content)


class AsyncGroup:
    """The calls of one noun."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _run(self, flow: Flow[T]) -> T:
        return await carry_out(flow, self._step)

    async def _step(self, step: Step) -> Response:
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
            return Response(200)
        return await self._transport.send(step)


async def carry_out(flow: Flow[T], act: Callable[[Step], Awaitable[Response]]) -> T:
    """As the blocking `carry_out`."""
    try:
        step = next(flow)
        while True:
            try:
                response = await act(step)
            except Error as problem:
                step = flow.throw(problem)
            else:
                step = flow.send(response)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        flow.close()


def awaitable(flow: Callable[P, Flow[T]]) -> Callable[Concatenate[AsyncGroup, P], Coroutine[Any, Any, T]]:
    """A coroutine method that carries out the flow, with the flow's signature and docstring."""

    @functools.wraps(flow)
    async def method(self: AsyncGroup, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(flow(*args, **kwargs))

    method.__signature__ = method_signature(flow)  # type: ignore[attr-defined]
    return method


class AsyncModels(AsyncGroup):
    register = awaitable(models.register)
    list = awaitable(models.list_all)
    versions = awaitable(models.versions)
    show = awaitable(models.show)
    tag = awaitable(models.tag)
    alias = awaitable(models.alias)
    unalias = awaitable(models.unalias)
    download = awaitable(models.download)
    delete = awaitable(models.delete)


class AsyncManifests(AsyncGroup):
    create = awaitable(manifests.create)
    list = awaitable(manifests.list_all)
    versions = awaitable(manifests.versions)
    show = awaitable(manifests.show)
    script = awaitable(manifests.script)
    test = awaitable(manifests.trial)
    download = awaitable(manifests.download)
    delete = awaitable(manifests.delete)


class AsyncImages(AsyncGroup):
    create = awaitable(images.create)
    list = awaitable(images.list_all)
    versions = awaitable(images.versions)
    show = awaitable(images.show)
    save = awaitable(images.save)
    push = awaitable(transfers.push)
    pull = awaitable(transfers.pull)
    load = awaitable(transfers.load)
    sbom = awaitable(transfers.sbom)
    provenance = awaitable(transfers.provenance)
    logs = awaitable(images.logs)
    usage = awaitable(images.usage)
    dockerfile = awaitable(images.dockerfile)
    build_context = awaitable(images.build_context)
    run = awaitable(images.run)
    delete = awaitable(images.delete)


class AsyncRegistries(AsyncGroup):
    login = awaitable(registries.login)
    list = awaitable(registries.list_all)
    logout = awaitable(registries.logout)


class AsyncEnvironments(AsyncGroup):
    create = awaitable(environments.create)
    list = awaitable(environments.list_all)
    show = awaitable(environments.show)
    use = awaitable(environments.use)
    check = awaitable(environments.check)
    delete = awaitable(environments.delete)


class AsyncServices(AsyncGroup):
    create = awaitable(services.create)
    update = awaitable(services.update)
    list = awaitable(services.list_all)
    show = awaitable(services.show)
    scale = awaitable(services.scale)
    tune = awaitable(services.tune)
    tuning = awaitable(services.tuning)
    delete = awaitable(services.delete)
    history = awaitable(services.history)
    rollback = awaitable(services.rollback)
    keys = awaitable(scoring.keys)
    regenerate_key = awaitable(scoring.regenerate_key)
    usage = awaitable(scoring.usage)
    run = awaitable(scoring.run)
    wait = awaitable(scoring.wait)

    async def logs(
        self, name: str, *, lines: int | None = None, request_id: str | None = None, follow: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """Log records of all replicas, oldest first; with `follow` the iterator goes on as they are written."""
        cutter = scoring.LogLines()
        async for piece in self._transport.stream(scoring.log_request(name, lines, request_id, follow)):
            for record in cutter.feed(piece):
                yield record
        for record in cutter.end():
            yield record


class AsyncOperations(AsyncGroup):
    list = awaitable(operations.list_all)
    show = awaitable(operations.show)
    wait = awaitable(operations.wait)


class AsyncClient(AsyncGroup):
    """As Client, with coroutines: `async with AsyncClient() as client: await client.services.list()`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        home: str | os.PathLike[str] | None = None,
        ca_file: str | None = None,
    ) -> None:
        self.address = locate(url, token, home, ca_file)
        super().__init__(AsyncTransport(self.address))
        self.models = AsyncModels(self._transport)
        self.manifests = AsyncManifests(self._transport)
        self.images = AsyncImages(self._transport)
        self.registries = AsyncRegistries(self._transport)
        self.environments = AsyncEnvironments(self._transport)
        self.services = AsyncServices(self._transport)
        self.operations = AsyncOperations(self._transport)

    status = awaitable(control.status)
    doctor = awaitable(control.doctor)
    gc = awaitable(control.gc)
    shutdown = awaitable(control.shutdown)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
