"""What can be tried before a start, one finding each. Nothing that was not there before stays behind."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zmq

from mt4pump.address_holder import holder_of
from mt4pump.errors import BindError, LibraryError, StartError
from mt4pump.publisher import Publisher, SocketOptions
from mt4pump.settings import Settings

CONNECT_LIMIT_S = 3.0
DEFAULT_PORT = 443
"""The Manager API's own, for a server without one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``what`` was tried, whether it is well, and in ``text`` what was seen and, if not, what to do."""

    what: str
    ok: bool
    text: str


def trials(settings: Settings) -> Iterator[Finding]:
    """Try everything that a start with ``settings`` needs; yields as results come."""
    if settings.source == "dll":
        yield library(settings.dll_path)
    else:
        yield Finding("library", ok=True, text="not needed: source is the simulator")
        yield from tick_files(settings.ticks)
    yield data_folder(settings.data_dir)
    yield address(settings.pub_endpoint, ipv6=settings.ipv6)
    if settings.source == "dll":
        yield from servers(settings.servers)


def library(dll_path: Path | None) -> Finding:
    """Find and load the vendor's library."""
    from mt4pump.bridge.library import find, load, word_bits  # noqa: PLC0415 - ctypes only where a DLL is wanted

    try:
        found = find(dll_path)
        loaded = load(found)
    except LibraryError as error:
        return Finding("library", ok=False, text=str(error))
    version, build = loaded.version >> 16, loaded.version & 0xFFFF
    return Finding("library", ok=True, text=f"{loaded.path}: {word_bits(found)}-bit, version {version}, build {build}")


def tick_files(files: tuple[Path, ...]) -> Iterator[Finding]:
    """Look at the start of each tick file as the simulator does."""
    if not files:
        return
    from mt4pump.simulator.ticks import TickFiles  # noqa: PLC0415 - only where ticks are replayed

    for file in files:
        try:
            digits = TickFiles((file,)).digits
        except StartError as error:
            yield Finding("ticks", ok=False, text=str(error))
        else:
            yield Finding("ticks", ok=True, text=f"{file}: {', '.join(sorted(digits))}")


def data_folder(folder: Path) -> Finding:
    """Write a file into the data folder; one that is made for the trial is removed again."""
    made: list[Path] = []
    try:
        for missing in [each for each in reversed([folder, *folder.parents]) if not each.exists()]:
            missing.mkdir()
            made.append(missing)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"mt4pump")
    except OSError as error:
        reason = error.strerror or str(error)
        cure = "make it writable for this user, or set --data-dir to a folder that is"
        return Finding("data_dir", ok=False, text=f"{folder} cannot be written to ({reason}); {cure}")
    finally:
        for each in reversed(made):
            with contextlib.suppress(OSError):  # somebody else put something there meanwhile
                each.rmdir()
    return Finding("data_dir", ok=True, text=f"{folder} is writable" + ("; a start will make it" if made else ""))


def address(endpoint: str, *, ipv6: bool = False) -> Finding:
    """Bind the publishing address for a moment."""
    if endpoint.startswith("ipc://"):
        return _ipc_address(endpoint)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        Publisher(context, endpoint, SocketOptions(ipv6=ipv6)).close()
    except BindError as error:
        return Finding("pub_endpoint", ok=False, text=str(error).removeprefix("pub_endpoint "))
    finally:
        context.destroy(linger=0)
    return Finding("pub_endpoint", ok=True, text=f"{endpoint} is free")


def _ipc_address(endpoint: str) -> Finding:
    """Look without binding: libzmq takes a socket's file away from a running program without a word."""
    path = Path(endpoint.removeprefix("ipc://"))
    if holder := holder_of(endpoint):
        text = f"{endpoint} is taken by {holder}: stop it, or publish on another address"
        return Finding("pub_endpoint", ok=False, text=text)
    if not path.parent.is_dir():
        text = f"{endpoint}: there is no folder {path.parent}: make it, or publish on another address"
        return Finding("pub_endpoint", ok=False, text=text)
    return Finding("pub_endpoint", ok=True, text=f"{endpoint} is free")


def servers(names: tuple[str, ...], limit_s: float = CONNECT_LIMIT_S) -> Iterator[Finding]:
    """Resolve and connect to all servers at the same time, for at most ``limit_s`` together."""
    attempts = [Attempt(name, limit_s) for name in names]
    deadline_s = time.monotonic() + limit_s
    for attempt in attempts:
        attempt.thread.join(max(0.0, deadline_s - time.monotonic()))
        yield attempt.finding()


class Attempt:
    """One connection attempt in a thread of its own: a name look-up takes no limit, so it is left behind instead."""

    def __init__(self, server: str, limit_s: float, connect: Callable[..., socket.socket] | None = None) -> None:
        self.server = server
        self._limit_s = limit_s
        self._connect = connect or socket.create_connection
        self._text = ""
        self._ok = False
        self.thread = threading.Thread(target=self._try, name=f"check {server}", daemon=True)
        self.thread.start()

    def _try(self) -> None:
        host, port = host_and_port(self.server)
        try:
            with self._connect((host, port), timeout=self._limit_s) as link:
                self._text = f"{self.server} answers at {link.getpeername()[0]} port {port}"
                self._ok = True
        except socket.gaierror as error:
            self._text = f"{self.server}: name not found ({error.strerror}); correct servers, or look at DNS"
        except (OSError, UnicodeError) as error:
            self._text = (
                f"{self.server} port {port} does not answer ({error}); correct servers, or look at the firewall"
            )

    def finding(self) -> Finding:
        """Return what was seen so far."""
        silent = f"{self.server} did not answer within {self._limit_s:g} s; correct servers, or look at the firewall"
        return Finding("server", ok=self._ok, text=self._text or silent)


def host_and_port(server: str) -> tuple[str, int]:
    """Return host and port of ``host``, ``host:port`` or ``[ipv6]:port``."""
    if server.endswith("]") or ":" not in server:
        return server.strip("[]"), DEFAULT_PORT
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)
