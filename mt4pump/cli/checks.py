"""Checks of what a start needs, one finding each; nothing that exists is changed."""

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

from mt4pump.errors import JournalError, LibraryError, SettingsError, StartError
from mt4pump.private_files import is_exposed
from mt4pump.process.lock import instance_on, refuse_shared
from mt4pump.publisher.binding import holder_of
from mt4pump.publisher.publisher import bind_failure
from mt4pump.settings import Settings

CONNECT_LIMIT_S = 3.0
DEFAULT_PORT = 443
"""The Manager API's own, for a server without one."""
FAULTS_SHOWN = 20
"""Files of clients whose faults are listed one by one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: ``what`` was checked, whether it is ``ok``, and in ``text`` what was found and what to do."""

    what: str
    ok: bool
    text: str


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Check everything that a start with ``settings`` needs; yield findings as they come."""
    if settings.source == "dll":
        yield library(settings.dll_path)
    else:
        yield Finding("library", ok=True, text="not needed: source is the simulator")
        yield from tick_files(settings)
    yield data_folder(settings.data_dir)
    if settings.source == "dll":
        yield from path_depth(settings.data_dir)
    if settings.journal:
        from mt4pump.wiring import journal_path  # noqa: PLC0415 - brings in most of the daemon

        yield journal(journal_path(settings))
    yield from addresses(settings)
    yield from keys(settings)
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


def tick_files(settings: Settings) -> Iterator[Finding]:
    """Read the start of each tick file as the simulator does."""
    if not settings.ticks:
        return
    from mt4pump.simulator.tick_files import TickFiles  # noqa: PLC0415 - only where ticks are replayed
    from mt4pump.wiring import tick_options  # noqa: PLC0415 - only where ticks are replayed

    for file in settings.ticks:
        try:
            digits = TickFiles((file,), options=tick_options(settings)).digits
        except StartError as error:
            yield Finding("ticks", ok=False, text=str(error))
        else:
            yield Finding("ticks", ok=True, text=f"{file}: {', '.join(sorted(digits))}")


def data_folder(folder: Path) -> Finding:
    """Write a file into the data folder; one that is made for the check is removed again."""
    if holder := instance_on(folder):
        return Finding("data_dir", ok=False, text=f"{folder} is in use by {holder.text}: stop it, or set --data-dir")
    made: list[Path] = []
    try:
        refuse_shared(folder)
        for missing in [each for each in reversed([folder, *folder.parents]) if not each.exists()]:
            missing.mkdir()
            made.append(missing)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"mt4pump")
    except StartError as error:
        return Finding("data_dir", ok=False, text=str(error).removeprefix("data_dir "))
    except OSError as error:
        reason = error.strerror or str(error)
        cure = "make it writable for this user, or set --data-dir to a folder that is"
        return Finding("data_dir", ok=False, text=f"{folder} cannot be written to ({reason}); {cure}")
    finally:
        for each in reversed(made):
            with contextlib.suppress(OSError):  # another program wrote into it meanwhile
                each.rmdir()
    return Finding("data_dir", ok=True, text=f"{folder} is writable" + ("; a start will make it" if made else ""))


def path_depth(folder: Path) -> Iterator[Finding]:
    """Warn of a data folder that lies too deep for the vendor's library."""
    from mt4pump.bridge.dll_log import too_deep  # noqa: PLC0415 - only where a DLL is wanted
    from mt4pump.wiring import working_folder  # noqa: PLC0415

    if fault := too_deep(working_folder(folder)):
        yield Finding("data_dir", ok=False, text=fault)


def journal(path: Path) -> Finding:
    """Read from the journal, if there is one already. SQLite leaves its two side files; the next start takes them."""
    from mt4pump.journal import JournalReader  # noqa: PLC0415 - SQLite only where there is a journal

    if not path.exists():
        return Finding("journal", ok=True, text=f"{path} will be made by a start")
    reader = JournalReader(path)
    try:
        page = reader.page(after=0, to=None, prefixes=(b"",), limit=1)
    except JournalError as error:
        return Finding("journal", ok=False, text=str(error))
    finally:
        reader.close()
    kept = f"offsets {page.first_available} to {page.last}" if page.first_available else "no events"
    return Finding("journal", ok=True, text=f"{path} holds {kept}")


def addresses(settings: Settings) -> Iterator[Finding]:
    """Bind each address for a moment."""
    yield address(settings.pub_endpoint, ipv6=settings.ipv6)
    if settings.query_endpoint is not None:
        yield address(settings.query_endpoint, "query_endpoint", ipv6=settings.ipv6)


def address(endpoint: str, setting: str = "pub_endpoint", *, ipv6: bool = False) -> Finding:
    """Bind an address for a moment."""
    if endpoint.startswith("ipc://"):
        return _ipc_address(endpoint, setting)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, int(ipv6))
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            text = bind_failure(endpoint, error, setting=setting).removeprefix(f"{setting} ")
            return Finding(setting, ok=False, text=text)
    return Finding(setting, ok=True, text=f"{endpoint} is free")


def _ipc_address(endpoint: str, setting: str) -> Finding:
    """Check without binding: libzmq silently replaces the socket file of a running program."""
    path = Path(endpoint.removeprefix("ipc://"))
    if holder := holder_of(endpoint):
        return Finding(setting, ok=False, text=f"{endpoint} is taken by {holder}: stop it, or use another address")
    if not path.parent.is_dir():
        text = f"{endpoint}: there is no folder {path.parent}: make it, or use another address"
        return Finding(setting, ok=False, text=text)
    return Finding(setting, ok=True, text=f"{endpoint} is free")


def keys(settings: Settings) -> Iterator[Finding]:
    """Read the daemon's keys and the files of its clients."""
    if settings.curve_secret_key is None or settings.curve_clients is None:
        return
    from mt4pump.security import clients  # noqa: PLC0415 - only where there are keys
    from mt4pump.security import keys as key_files  # noqa: PLC0415

    path, folder = settings.curve_secret_key, settings.curve_clients
    try:
        public = key_files.read_server_pair(path).public
    except SettingsError as error:
        yield Finding("curve_secret_key", ok=False, text=str(error))
    else:
        if is_exposed(path):
            text = f"{path} may be read by other users of this machine: chmod 600 {path}"
            yield Finding("curve_secret_key", ok=False, text=text)
        else:
            yield Finding("curve_secret_key", ok=True, text=f"{path}: clients need its public key {public}")
    try:
        found = clients.read_clients(folder, clients.fingerprint(folder), settings.topic_suffix)
    except OSError as error:
        text = f"{folder} cannot be read ({error.strerror or error}); make it, or correct the path"
        yield Finding("curve_clients", ok=False, text=text)
        return
    for fault in list(found.faults.values())[:FAULTS_SHOWN]:
        yield Finding("curve_clients", ok=False, text=fault)
    if not found.faults:
        yield Finding("curve_clients", ok=True, text=f"{folder}: {len(found)} client(s) may connect")


def servers(names: tuple[str, ...], limit_s: float = CONNECT_LIMIT_S) -> Iterator[Finding]:
    """Resolve and connect to all servers at the same time, for at most ``limit_s`` together."""
    attempts = [Attempt(name, limit_s) for name in names]
    deadline_s = time.monotonic() + limit_s
    for attempt in attempts:
        attempt.thread.join(max(0.0, deadline_s - time.monotonic()))
        yield attempt.finding()


class IPv6OnlyError(OSError):
    """A name that has IPv6 addresses alone, by which the vendor's library cannot connect."""


def connect_by_ipv4(address: tuple[str, int], timeout: float) -> socket.socket:
    """Connect to ``(host, port)`` as the vendor's library does: by IPv4 alone, each address for ``timeout`` seconds.

    Raises OSError; IPv6OnlyError where the name has no IPv4 address.
    """
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror:
        with contextlib.suppress(socket.gaierror):
            if socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM):
                raise IPv6OnlyError from None
        raise
    failure = OSError("no address")
    for *_, place in found:
        try:
            return socket.create_connection((str(place[0]), port), timeout=timeout)
        except OSError as error:
            failure = error
    raise failure


class Attempt:
    """One connection attempt in its own thread: a name look-up has no timeout, so the thread is abandoned."""

    def __init__(self, server: str, limit_s: float, connect: Callable[..., socket.socket] | None = None) -> None:
        self.server = server
        self._limit_s = limit_s
        self._connect = connect or connect_by_ipv4
        self._text = ""
        self._ok = False
        self.thread = threading.Thread(target=self._try, name=f"check {server}", daemon=True)
        self.thread.start()

    def _try(self) -> None:
        host, port = host_and_port(self.server)
        try:
            with self._connect((host, port), timeout=self._limit_s) as connection:
                self._text = f"{self.server} answers at {connection.getpeername()[0]} port {port}"
                self._ok = True
        except IPv6OnlyError:
            self._text = (
                f"{self.server}: the name has IPv6 addresses only (AAAA), and the vendor's library connects by IPv4 "
                "only; write the server's IPv4 address, or a name that has one"
            )
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
