"""A TCP proxy that breaks connections after a number of bytes, between a client and a real server."""

import contextlib
import socket
import threading


class CuttingProxy:
    """`cuts` are bytes that the next connections may send to the server; those after the last one are left alone."""

    def __init__(self, server: str, *cuts: int) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._cuts = list(cuts)
        self.broken = 0
        self._open: list[socket.socket] = []
        self._workers: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for worker in self._workers:
            worker.join()
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                allowed = self._cuts.pop(0) if self._cuts else None
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for source, target, limit in ((client, server, allowed), (server, client, None)):
                    self._workers.append(threading.Thread(target=self._copy, args=(source, target, limit), daemon=True))
                    self._workers[-1].start()

    def _copy(self, source: socket.socket, target: socket.socket, allowed: int | None) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65_536 if allowed is None else min(65_536, allowed)):
                target.sendall(block)
                if allowed is not None:
                    allowed -= len(block)
                    if allowed <= 0:
                        self.broken += 1
                        # The client sees a reset or the end, the server the end of the stream.
                        source.shutdown(socket.SHUT_RDWR)
                        break
            target.shutdown(socket.SHUT_RDWR)
