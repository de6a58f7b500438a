"""The composition root: builds every object of a control plane and hands it to those who need it."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from argosy import __version__
from argosy.environments.container.engines import Engines
from argosy.environments.container.images import EngineImages
from argosy.environments.container.target import ContainerTarget
from argosy.environments.process import ProcessTarget
from argosy.environments.registry import EnvironmentRegistry
from argosy.environments.target import Target
from argosy.environments.targets import Targets
from argosy.errors import Error, InvalidOption, PortInUse, StorageFailed
from argosy.gateway.gateway import Gateway
from argosy.gateway.logs import rotate
from argosy.gateway.supervisor import free_port
from argosy.gateway.tls import TlsFiles, own_ca
from argosy.images.build import ImageBuilder
from argosy.images.collect import BLOB_GRACE_S, Collector
from argosy.images.distribution.logins import Logins
from argosy.images.distribution.registries import Registries
from argosy.images.leases import Leases
from argosy.images.oci.create import OciImages
from argosy.images.oci.layout import OciLayout
from argosy.images.registry import ImageRegistry
from argosy.images.transfers import Transfers
from argosy.keys import Vault, new_key, read_or_make, write_private
from argosy.manifests.create import ManifestBuilder
from argosy.manifests.registry import ManifestRegistry
from argosy.models.registry import ModelRegistry
from argosy.records import utc_now
from argosy.server.app import build_app
from argosy.server.control import Control
from argosy.server.holding import Holding
from argosy.server.image_jobs import ImageJobs
from argosy.server.image_runs import ImageRuns
from argosy.server.jobs import Jobs
from argosy.server.operations import OperationRunner
from argosy.server.placement import Placement
from argosy.server.routing import GatewayRouter
from argosy.server.scratch_replicas import ScratchReplicas
from argosy.server.trials import Trials
from argosy.server.tuner import Tuner
from argosy.services.fair_share import machine_cores
from argosy.services.keyring import Keyring
from argosy.services.launching import Launcher
from argosy.services.logs import tail
from argosy.services.reconcile import Reconciler
from argosy.services.registry import ServiceRegistry
from argosy.services.scaling import Autoscaler
from argosy.settings import Home, Settings
from argosy.store.blobs import LocalBlobs
from argosy.store.db import Database

log = logging.getLogger(__name__)

_GATEWAY_EVERY_S = 1.0
_SCALE_EVERY_S = 1.0
_ROTATE_EVERY_S = 5.0
_COLLECT_EVERY_S = 3600.0
# How long finished operations can be looked at.
_OPERATIONS_DAYS = 30
_STOP_REPLICAS_S = 30.0
_FAILURE_LOG_LINES = 20
_REMEMBERED = ("host", "tls_auto", "tls_cert", "tls_key")


class ControlPlane:
    """One control plane of one home, from `start` to `stop`. `listener` is the bound socket of the REST API.

    `options` are the settings that the next start takes over, see `remembered`.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        tls: TlsFiles | None,
        listener: socket.socket,
        options: Mapping[str, Any],
    ) -> None:
        self._home = home
        self._options = options
        self._settings = settings
        self._listener = listener
        self._tls = tls
        self._stop_services = False
        self._server: uvicorn.Server | None = None
        self._failure: Error | None = None
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="housekeeping")
        scheme = "https" if tls else "http"
        try:
            token = read_or_make(home.token, new_key())
            vault = Vault.open(home.master_key)
        except OSError as problem:
            raise StorageFailed(f"{problem.filename}: {problem.strerror}. Make it readable and writable.") from problem
        database = Database.open(home.database)
        blobs = LocalBlobs(home.blobs)
        blobs.clean_temporary()
        models = ModelRegistry(database, blobs, settings)
        manifests = ManifestRegistry(database)
        images = ImageRegistry(database)
        leases = Leases()
        builder = ImageBuilder(home, settings, database, images, blobs.path, __version__, leases)
        registries = Registries(Logins(home.registries, vault), settings.registry_ca_file)
        layout = OciLayout(home.oci, leases)
        build_logs = home.logs / "images"
        oci = OciImages(layout, settings, database, images, blobs.path, __version__, build_logs, registries.pull)
        transfers = Transfers(settings, images, oci, registries)
        collector = Collector(home, leases, layout, images, blobs, self._used_blobs)
        image_jobs = ImageJobs(images, transfers, collector, blobs)
        keyring = Keyring(database, vault)
        services = ServiceRegistry(database, keyring)
        environments = EnvironmentRegistry(database)
        if not environments.all():
            environments.create("local", "process")
        self._engines = engines = Engines(environments.engines)
        engine_images = EngineImages(oci.layout, images.oci_digests)
        target = Targets(
            ProcessTarget(home, settings.log_limit_bytes),
            ContainerTarget(home, engines, engine_images, settings.log_limit_bytes),
        )
        gateway = Gateway(home, settings, tls)

        def last_lines(service: str, replica: str) -> list[str]:
            mine = [path for path in target.log_files(service) if path.name.startswith(replica)]
            return [readable(line) for line in tail(mine, _FAILURE_LOG_LINES)]

        launcher = Launcher(services, builder, images, environments)
        self._router = GatewayRouter(gateway, home.hold)
        reconciler = Reconciler(services, keyring, target, self._router, launcher, last_lines, scheme)
        autoscaler = Autoscaler(services, reconciler, target, gateway.counters, machine_cores())
        routes = reconciler.adopt()
        self._router.ensure_running(routes)
        self._holding = Holding(home.hold, reconciler, autoscaler, keyring.hashes)
        host, port = listener.getsockname()[:2]
        recipes = ManifestBuilder(models, manifests, blobs, settings)
        trials = Trials(home, models, manifests, builder)
        scratch = ScratchReplicas(home, engines, engine_images)
        scratch.clean()
        tuner = Tuner(home, services, images, launcher, scratch)
        placement = Placement(environments, services, images, engines, engine_images)
        jobs = Jobs(
            settings, blobs, models, manifests, recipes, images, builder, oci, services, reconciler, trials, tuner,
            leases, placement, ImageRuns(images, builder, environments, engines, scratch),
        )  # fmt: skip
        self.control = Control(
            home=home,
            settings=settings,
            database=database,
            blobs=blobs,
            models=models,
            manifests=manifests,
            recipes=recipes,
            images=images,
            image_builder=builder,
            registries=registries,
            oci=oci,
            transfers=transfers,
            environments=environments,
            services=services,
            keyring=keyring,
            target=target,
            tuner=tuner,
            reconciler=reconciler,
            autoscaler=autoscaler,
            gateway=gateway,
            operations=OperationRunner(database, {**jobs.kinds(), **image_jobs.kinds()}, settings.operation_workers),
            url=f"{scheme}://{_shown(host)}:{port}",
            gateway_url=f"{scheme}://{_shown(settings.host)}:{gateway.port}",
            ca_file=str(tls.ca) if tls and tls.ca else None,
            started_at=utc_now(),
            version=__version__,
            shutdown=self._shutdown,
        )
        self._app = build_app(self.control, token, __version__)

    async def serve(self) -> None:
        """Until a signal or a shutdown request. The address file is written once requests are answered."""
        tls: dict[str, Any] = (
            {"ssl_certfile": str(self._tls.cert), "ssl_keyfile": str(self._tls.key)} if self._tls else {}
        )
        config = uvicorn.Config(
            _with_lifespan(self._app, self._lifespan),
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=3,
            timeout_keep_alive=65,
            **tls,
        )
        self._server = uvicorn.Server(config)
        # The server takes SIGTERM for itself and, when it has stopped, raises it once more: that must not kill us.
        signal.signal(signal.SIGTERM, lambda *_: None)
        await self._server.serve(sockets=[self._listener])
        if self._failure is not None:
            raise self._failure
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._stop_services:
            await asyncio.to_thread(stop_everything, self.control.gateway, self.control.target)

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        control = self.control
        tasks = [
            asyncio.create_task(control.reconciler.run(), name="reconcile"),
            asyncio.create_task(self._every(_GATEWAY_EVERY_S, self._keep_gateway), name="gateway"),
            asyncio.create_task(self._holding.serve(), name="holding"),
            asyncio.create_task(self._every(_SCALE_EVERY_S, self._scale), name="autoscale"),
            asyncio.create_task(self._every(_ROTATE_EVERY_S, self._rotate_logs), name="logs"),
            asyncio.create_task(self._every(_COLLECT_EVERY_S, self._collect_blobs), name="blobs"),
            asyncio.create_task(self._every(_COLLECT_EVERY_S, self._renew_certificate), name="certificate"),
            asyncio.create_task(self._every(_COLLECT_EVERY_S, self._forget_operations), name="operations"),
        ]
        try:
            self._announce(control)
            yield
        except Error as problem:
            self._failure = problem
            raise
        finally:
            control.operations.stop()
            await self._holding.stop()
            control.autoscaler.close()
            self._engines.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _announce(self, control: Control) -> None:
        resumed = control.operations.resume()
        if resumed:
            log.info("%d unfinished operations go on", resumed)
        try:
            write_address(self._home, control, self._options)
        except OSError as problem:
            raise StorageFailed(f"{self._home.address} cannot be written: {problem.strerror or problem}.") from problem
        log.info("the control plane answers at %s, the gateway at %s", control.url, control.gateway_url)

    async def _every(self, seconds: float, work: Any) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._pool, work)
            except Error as problem:
                log.warning("%s: %s", work.__name__.strip("_"), problem.message)
            except Exception:
                log.exception("%s failed and will be repeated", work.__name__.strip("_"))
            await asyncio.sleep(seconds)

    def _keep_gateway(self) -> None:
        self.control.reconciler.renew_routes(self._router.ensure_running)

    def _scale(self) -> None:
        self.control.autoscaler.tick()

    def _rotate_logs(self) -> None:
        self.control.gateway.rotate_logs()
        rotate(self._home.logs / "control-plane.log", self._settings.log_limit_bytes)

    def _collect_blobs(self) -> None:
        self.control.blobs.delete_unreferenced(self._used_blobs(), BLOB_GRACE_S)

    def _used_blobs(self) -> set[str]:
        """Operations first: what one registers after that is in the tables before it is done."""
        control = self.control
        mentioned = control.operations.mentioned_blobs()
        return mentioned | control.models.referenced_blobs() | control.manifests.files_in_use()

    def _forget_operations(self) -> None:
        before = datetime.now(UTC) - timedelta(days=_OPERATIONS_DAYS)
        self.control.operations.forget_finished(before.isoformat(timespec="milliseconds").replace("+00:00", "Z"))

    def _renew_certificate(self) -> None:
        """The own authority's certificate before it expires; the gateway takes a new file over by itself."""
        if not self._settings.tls_auto or self._settings.tls_cert:
            return
        files = own_ca(self._home, [self._settings.host])
        context = self._server.config.ssl if self._server else None
        if context is not None:
            context.load_cert_chain(files.cert, files.key)

    def _shutdown(self, services: bool) -> None:
        self._stop_services = services
        if self._server is not None:
            self._server.should_exit = True


def stop_everything(gateway: Gateway, target: Target) -> None:
    """The gateway first, so that no request meets a replica that is gone; then the replicas. Nothing is left."""
    gateway.stop(_STOP_REPLICAS_S)
    deadline = time.monotonic() + 2 * _STOP_REPLICAS_S
    while time.monotonic() < deadline:
        # Looked at each time: a pass of the reconciler that was under way may have started one more.
        left = [one for service in target.services() for one in target.observe(service)]
        for one in left:
            if one.state == "gone":
                target.forget(one.id)
            else:
                target.drain(one.id, _STOP_REPLICAS_S)
        if all(one.state == "gone" for one in left):
            return
        time.sleep(0.05)


def bind(settings: Settings, option: str = "--port") -> socket.socket:
    """The listening socket of the REST API. Raises PortInUse, or InvalidOption for an address that is not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Port 0: one below the kernel's range for outgoing connections, since it is kept for the next start.
    port = settings.port or free_port(settings.host)
    try:
        listener.bind((settings.host, port))
    except OSError as problem:
        listener.close()
        if problem.errno == errno.EADDRINUSE:
            raise PortInUse(settings.host, port, option) from problem
        raise InvalidOption(
            "--host", settings.host, f"port {port} cannot be opened there: {problem.strerror or problem}"
        ) from problem
    return listener


def write_address(home: Home, control: Control, options: Mapping[str, Any]) -> None:
    """How the CLI and the SDK find this control plane, and what `remembered` reads at the next start."""
    address = {
        "url": control.url,
        "gateway_url": control.gateway_url,
        "ca_file": control.ca_file,
        "pid": os.getpid(),
        "version": control.version,
        "port": int(control.url.rpartition(":")[2]),
        "gateway_port": control.gateway.port,
        "options": dict(options),
    }
    write_private(home.address, json.dumps(address, indent=1).encode())


def remembered(home: Home) -> tuple[dict[str, int], dict[str, Any]]:
    """Of the last start: the ports, and the settings that were given as options, such as `host` and `tls_auto`.

    URLs stay the same, and stay encrypted, as long as nobody asks for others.
    """
    try:
        known = json.loads(home.address.read_text())
        options = {key: value for key, value in known.get("options", {}).items() if key in _REMEMBERED}
        return {"port": int(known["port"]), "gateway_port": int(known["gateway_port"])}, options
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}


def readable(line: str) -> str:
    """A JSON log line for people: the time of day, the level, the message and a traceback."""
    entry = json.loads(line)
    text = f"{str(entry.get('timestamp', ''))[11:23]} {entry.get('level', '')}: {entry.get('message', '')}"
    return f"{text}\n{entry['exception']}" if entry.get("exception") else text


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _with_lifespan(app: ASGIApp, lifespan: Any) -> ASGIApp:
    """The app, with start and stop of the loops tied to the server's own."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(lifespan())
            except Error as problem:
                await send({"type": "lifespan.startup.failed", "message": problem.message})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return wrapped
