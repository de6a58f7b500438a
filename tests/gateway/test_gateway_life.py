"""Who starts, finds, loses and ends HAProxy; and its log."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from argosy.errors import GatewayFailed, InvalidOption, PortInUse
from argosy.gateway.gateway import Gateway
from argosy.gateway.master import Master
from argosy.gateway.supervisor import free_port, port_is_free
from argosy.settings import Home, Settings
from gateway.harness import Client, Load, MakeGateway, Replica, route, until

SUPERVISE = """
import sys, time
from pathlib import Path
from argosy.gateway.gateway import Gateway
from argosy.gateway.routes import Route, Server
from argosy.settings import Home, Settings
gateway = Gateway(Home(Path(sys.argv[1])), Settings(gateway_port=0, haproxy=sys.argv[2]))
gateway.ensure_running([Route("iris", (Server("i", "unix@" + sys.argv[3]),), 60000, 108)])
print(gateway.port, gateway.status()["pid"], flush=True)
time.sleep(600)
"""


def test_it_serves_on_when_its_supervisor_is_killed_and_is_adopted(
    make_gateway: MakeGateway, home: Home, haproxy: str, folder: Path
) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        command = [sys.executable, "-c", SUPERVISE, str(home.path), haproxy, str(folder / "i")]
        supervisor = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert supervisor.stdout is not None
        port, pid = map(int, (await supervisor.stdout.readline()).split())
        load = await Load(port, "iris").start()
        supervisor.send_signal(signal.SIGKILL)
        await supervisor.wait()
        before = load.answered
        await until(lambda: load.answered > before + 50)
        adopting = make_gateway()
        await asyncio.to_thread(adopting.ensure_running, [route("iris", iris)])
        assert (adopting.port, adopting.status()["pid"]) == (port, pid)
        assert adopting.status()["uptime_s"] >= 0
        new = await Replica("n", folder).start()
        await asyncio.to_thread(adopting.ensure_running, [route("iris", iris, new), route("other")])
        assert adopting.status()["pid"] == pid
        await until(lambda: new.served > 0)
        await load.stop()
        assert load.failures == []
        assert len(masters(home)) == 1
        await iris.stop()
        await new.stop()

    asyncio.run(scenario())


def masters(home: Home) -> list[int]:
    """Masters of this home (their parent is no HAProxy)."""
    config = str(home.gateway / "haproxy.cfg")
    ours = {p.pid: p.ppid() for p in psutil.process_iter(["cmdline"]) if config in (p.info["cmdline"] or [])}
    return [pid for pid, parent in ours.items() if parent not in ours]


def test_a_second_ensure_running_starts_nothing(gateway: Gateway, make_gateway: MakeGateway, home: Home) -> None:
    other = make_gateway()
    threads = [threading.Thread(target=g.ensure_running, args=([],)) for g in (gateway, gateway, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(masters(home)) == 1
    assert gateway.port == other.port


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_killed_it_is_started_again_on_its_port(gateway: Gateway, home: Home, folder: Path, victim: str) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        before, port = gateway.status()["pid"], gateway.port
        processes = Master(home.run / "master").processes()
        os.kill(before if victim == "master" else processes.workers[0], signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(before) or psutil.Process(before).status() == "zombie")
        assert gateway.status()["state"] == "stopped"
        assert gateway.in_use("iris", "i") == 0
        assert gateway.counters() == {}
        await asyncio.to_thread(gateway.ensure_running, [route("iris", iris)])
        assert gateway.port == port
        assert gateway.status()["pid"] != before
        client = Client(port)
        assert (await client.request("/api/v1/service/iris/score")).status == 200
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_stale_files_of_another_boot_are_no_obstacle(gateway: Gateway, home: Home) -> None:
    gateway.stop(1)
    (home.run / "master").write_bytes(b"")
    # Our own pid lives, but was not started at that time.
    mark = {"pid": os.getpid(), "start_ticks": 1, "boot_id": "another"}
    (home.run / "gateway.json").write_text(json.dumps(mark))
    gateway.ensure_running([])
    assert gateway.status()["state"] == "running"


@pytest.mark.parametrize("stranger", [b"", b"argosy?"])
def test_a_stranger_on_the_master_socket_is_not_taken_for_ours(
    make_gateway: MakeGateway, home: Home, stranger: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.run / "master"))
        listener.listen(8)
        listener.settimeout(10)

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(stranger)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(GatewayFailed):
            make_gateway().ensure_running([])
        thread.join()


def test_a_port_in_use_starts_nothing(make_gateway: MakeGateway, home: Home) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = make_gateway(gateway_port=port)
        with pytest.raises(PortInUse, match=f"Port {port} .*--gateway-port"):
            gateway.ensure_running([])
        assert masters(home) == []
    gateway.ensure_running([])
    assert gateway.port == port


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
@pytest.mark.parametrize("port", [0, 17780])
def test_a_host_that_is_not_ours_is_named(home: Home, host: str, port: int) -> None:
    gateway = Gateway(home, Settings(host=host, gateway_port=port))
    with pytest.raises(InvalidOption, match=r"--host .*nothing can listen there"):
        gateway.ensure_running([])
    assert masters(home) == []


def test_a_new_port_is_taken_by_a_reload(gateway: Gateway, make_gateway: MakeGateway) -> None:
    old_port, pid = gateway.port, gateway.status()["pid"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse):
            make_gateway(gateway_port=taken.getsockname()[1]).ensure_running([])
    new_port = free_port("127.0.0.1")
    moved = make_gateway(gateway_port=new_port)
    moved.ensure_running([])
    assert (moved.status()["pid"], moved.status()["url"]) == (pid, f"http://127.0.0.1:{new_port}")
    assert port_is_free("127.0.0.1", old_port)


def test_stop_lets_requests_finish_and_ignores_idle_connections(gateway: Gateway, home: Home, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        idle, busy = Client(gateway.port), Client(gateway.port)
        await idle.request("/api/v1/service/iris/score")
        pending = asyncio.create_task(busy.request("/api/v1/service/iris/score", b"x", {"x-sleep": "0.5"}))
        await until(lambda: iris.in_flight == 1)
        await asyncio.to_thread(gateway.stop, 30)
        assert (await pending).status == 200
        assert masters(home) == []
        assert gateway.status()["state"] == "stopped"
        gateway.stop(1)
        await idle.close()
        await busy.close()
        await iris.stop()

    asyncio.run(scenario())


def test_stop_cuts_what_does_not_finish(gateway: Gateway, home: Home, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        pending = asyncio.create_task(client.request("/api/v1/service/iris/score", b"x", {"x-sleep": "60"}))
        await until(lambda: iris.in_flight == 1)
        await asyncio.to_thread(gateway.stop, 0.2)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await pending
        assert masters(home) == []
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_a_stopped_haproxy_is_not_waited_for_for_ever(gateway: Gateway, home: Home) -> None:
    pid = gateway.status()["pid"]
    worker = Master(home.run / "master").processes().workers[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(GatewayFailed):
            gateway.status()
    finally:
        os.kill(worker, signal.SIGCONT)
    assert gateway.status()["pid"] == pid


def test_the_log_is_json_lines_and_rotates_in_place(make_gateway: MakeGateway, home: Home, folder: Path) -> None:
    async def scenario() -> None:
        gateway = make_gateway(log_limit_bytes=4_000)
        iris = await Replica("i", folder).start()
        gateway.ensure_running([route("iris", iris)])
        pid, log = gateway.status()["pid"], home.logs / "gateway.log"
        client = Client(gateway.port)
        secret = {"authorization": "Bearer very-secret"}
        await client.request('/api/v1/service/iris/score/"quoted"?key=very-secret', headers=secret)
        for _ in range(20):
            await client.request("/api/v1/service/iris/score")
        await until(lambda: log.read_text().count('"backend":"service_iris"') == 21)
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        assert {line["status"] for line in lines} == {200}
        assert lines[0]["server"] == "i"
        assert lines[0]["path"] == '/api/v1/service/iris/score/"quoted"'
        assert "very-secret" not in log.read_text()
        gateway.rotate_logs()
        assert log.stat().st_size == 0
        assert "service_iris" in log.with_name("gateway.log.1").read_text()
        assert log.with_name("gateway.log.1").stat().st_mode & 0o077 == 0
        gateway.rotate_logs()
        await client.request("/api/v1/service/iris/score")
        await until(lambda: "service_iris" in log.read_text())
        assert gateway.status()["pid"] == pid
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_the_log_is_bounded_while_nobody_rotates_it(make_gateway: MakeGateway, home: Home, folder: Path) -> None:
    async def scenario() -> None:
        gateway = make_gateway(log_limit_bytes=4_000)
        iris = await Replica("i", folder).start()
        gateway.ensure_running([route("iris", iris)])
        log = home.logs / "gateway.log"
        # As if HAProxy had written for days: only the last bytes below the kernel's limit are left.
        with log.open("ab") as file:
            file.truncate(3_999_000)
        client = Client(gateway.port)
        for _ in range(30):
            assert (await client.request("/api/v1/service/iris/score")).status == 200
        assert log.stat().st_size <= 4_000_000
        gateway.apply([route("iris", iris), route("other")])
        assert (await client.request("/api/v1/service/other/score")).status == 503
        gateway.rotate_logs()
        assert (await client.request("/api/v1/service/iris/score")).status == 200
        await until(lambda: "service_iris" in log.read_text())
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_counters_rise_over_reloads(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        for number in range(3):
            client = Client(gateway.port)
            await client.request("/api/v1/service/iris/score", b"x" * 100)
            await client.request("/api/v1/service/iris/score", headers={"x-status": "500"})
            await client.close()
            gateway.apply([route("iris", iris), route(f"other-{number}")])
        await until(lambda: gateway.status()["retired_workers"] == 0)
        counted = gateway.counters()["iris"]
        assert (counted["requests"], counted["responses_2xx"], counted["responses_5xx"]) == (6, 3, 3)
        assert counted["bytes_in"] > 300
        assert (counted["sessions"], counted["ready_servers"]) == (0, 1)
        await iris.stop()

    asyncio.run(scenario())


def test_without_a_usable_binary_nothing_is_started(home: Home, folder: Path) -> None:
    for setting, problem in ((str(folder / "none"), "cannot be run"), (shutil.which("true") or "", "is no HAProxy")):
        gateway = Gateway(home, Settings(gateway_port=0, haproxy=setting))
        with pytest.raises(GatewayFailed, match=f"{problem}.*Install HAProxy"):
            gateway.ensure_running([])
    assert not (home.run / "gateway.json").exists()
