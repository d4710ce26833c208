"""``mt4pump check``: the effective settings, and whether a start would succeed; nothing that exists is changed."""

from __future__ import annotations

import argparse
import contextlib
import math
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from mt4pump.cli.arguments import bind_error
from mt4pump.cli.format import StdoutConsole, plain_table, text_cells
from mt4pump.errors import EXIT_OK, EXIT_SETTINGS, EXIT_START, JournalError, LibraryError, SettingsError, StartError
from mt4pump.journal import JournalReader
from mt4pump.log import MASK, json_line, one_line
from mt4pump.private_files import is_exposed
from mt4pump.process.arguments import add_settings, given_settings
from mt4pump.process.data_folder import instance_on, refuse_shared
from mt4pump.process.settings import Loaded, is_secret, read
from mt4pump.process.values import NONE, size_text
from mt4pump.publisher.binding import bind_failure, holder_of
from mt4pump.security.keys import fingerprint, read_clients, read_server_pair
from mt4pump.session_source import tick_options, working_folder
from mt4pump.settings import Settings
from mt4pump.settings.validators import suffix_text

CONNECT_LIMIT_S = 3.0
DEFAULT_PORT = 443
"""The Manager API's port, for a server without one."""
NO_ANSWER_CURE = "correct servers, or check the firewall"
IPV4_ONLY = "the vendor's library connects by IPv4 only; write the server's IPv4 address, or a name that has one"
FAULTS_SHOWN = 20
"""Files of clients whose faults are listed one by one."""


class Finding(NamedTuple):
    """One check: ``what`` was checked, whether it is ``ok``, and in ``text`` what was found and what to do."""

    what: str
    ok: bool
    text: str


def passed(what: str, text: str) -> Finding:
    """Return a finding that is ok."""
    return Finding(what, ok=True, text=text)


def failed(what: str, text: str) -> Finding:
    """Return a finding that is not ok."""
    return Finding(what, ok=False, text=text)


def check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and the settings."""
    parser.epilog = "  mt4pump check --config mt4pump.toml   are these settings right, and can a daemon start?"
    parser.add_argument("--json", action="store_true", help="one JSON object in place of table and lines")
    add_settings(parser, Settings)


def check_command(args: argparse.Namespace) -> int:
    """Show settings and checks. Returns 0 when all is well, 2 when settings are wrong, 3 when anything else is."""
    try:
        loaded = read(Settings, given_settings(args), config=args.config)
    except SettingsError as error:
        _, *problems = str(error).splitlines()
        _show(None, [failed("settings", problem.strip()) for problem in problems], as_json=args.json)
        return EXIT_SETTINGS
    findings = [passed("settings", "valid"), *run_checks(loaded.settings)]
    _show(loaded, findings, as_json=args.json)
    return EXIT_OK if all(finding.ok for finding in findings) else EXIT_START


def _show(loaded: Loaded[Settings] | None, findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        print(json_line(_json_report(loaded, findings)))
        return
    console = StdoutConsole()
    if loaded is not None:
        console.print(_table(loaded))
    for finding in findings:
        status = Text("ok      ", "green") if finding.ok else Text("not ok  ", "bold red")
        console.print(status + Text(f"{finding.what:<17} {one_line(finding.text)}"), soft_wrap=True)


def _json_report(loaded: Loaded[Settings] | None, findings: list[Finding]) -> dict[str, object]:
    """Return what ``--json`` prints; ``settings`` is null when they are wrong."""
    settings = loaded and {
        name: {"value": _plain_value(name, loaded.settings), "from": origin.text}
        for name, origin in loaded.origins.items()
    }
    checks = [finding._asdict() for finding in findings]
    return {"ok": all(finding.ok for finding in findings), "settings": settings, "checks": checks}


def _table(loaded: Loaded[Settings]) -> Table:
    """Return the settings as a table; defaults are dim."""
    table = plain_table("setting", "value", "from")
    for name, origin in loaded.origins.items():
        cells = text_cells(name, _value_text(name, loaded.settings), origin.text)
        table.add_row(*cells, style="dim" if origin.kind == "default" else "")
    return table


def _plain_value(name: str, settings: Settings) -> Any:
    """Return a setting's value for JSON: paths as text, an unlimited rate as ``max``, a secret as a mask."""
    value = getattr(settings, name)
    if value is not None and is_secret(Settings, name):
        return MASK
    if isinstance(value, tuple):
        return [str(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return "max" if value == math.inf else value


def _value_text(name: str, settings: Settings) -> str:
    """Return a setting's value as a user writes it."""
    value = _plain_value(name, settings)
    if name == "topic_suffix":
        return suffix_text(settings.topic_suffix)
    if value is None or value == []:
        return NONE if name == "query_endpoint" else "-"
    if name.endswith("_bytes"):
        return size_text(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, list) else str(value)


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Check everything that a start with ``settings`` needs; yield findings as they come."""
    if settings.source == "dll":
        yield library(settings.dll_path)
    else:
        yield passed("library", "not needed: source is the simulator")
        yield from tick_files(settings)
    yield data_folder(settings.data_dir)
    if settings.source == "dll":
        yield from path_depth(settings.data_dir)
    if settings.journal:
        yield journal(settings.journal_path)
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
        return failed("library", str(error))
    version, build = loaded.version >> 16, loaded.version & 0xFFFF
    return passed("library", f"{loaded.path}: {word_bits(found)}-bit, version {version}, build {build}")


def tick_files(settings: Settings) -> Iterator[Finding]:
    """Read the start of each tick file as the simulator does."""
    if not settings.ticks:
        return
    from mt4pump.simulator.tick_files import TickFiles  # noqa: PLC0415 - only where ticks are replayed

    for file in settings.ticks:
        try:
            digits = TickFiles((file,), options=tick_options(settings)).digits
        except StartError as error:
            yield failed("ticks", str(error))
        else:
            yield passed("ticks", f"{file}: {', '.join(sorted(digits))}")


def data_folder(folder: Path) -> Finding:
    """Write a file into the data folder; a folder that is made for the check is removed again."""
    if holder := instance_on(folder):
        return failed("data_dir", f"{folder} is in use by {holder.text}: stop it, or set --data-dir")
    made: list[Path] = []
    try:
        refuse_shared(folder)
        for missing in [each for each in reversed([folder, *folder.parents]) if not each.exists()]:
            missing.mkdir()
            made.append(missing)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"mt4pump")
    except StartError as error:
        return failed("data_dir", str(error).removeprefix("data_dir "))
    except OSError as error:
        reason = error.strerror or str(error)
        cure = "make it writable for this user, or set --data-dir to a folder that is"
        return failed("data_dir", f"{folder} cannot be written to ({reason}); {cure}")
    finally:
        for each in reversed(made):
            with contextlib.suppress(OSError):  # another program wrote into it meanwhile
                each.rmdir()
    return passed("data_dir", f"{folder} is writable" + ("; a start will make it" if made else ""))


def path_depth(folder: Path) -> Iterator[Finding]:
    """Report a data folder whose path is too long for the vendor's library."""
    from mt4pump.bridge.dll_log import too_deep  # noqa: PLC0415 - only where a DLL is wanted

    if fault := too_deep(working_folder(folder)):
        yield failed("data_dir", fault)


def journal(path: Path) -> Finding:
    """Read from the journal, if it exists. SQLite leaves two side files, which the next start uses."""
    if not path.exists():
        return passed("journal", f"{path} will be made by a start")
    with contextlib.closing(JournalReader(path)) as reader:
        try:
            page = reader.page(after=0, to=None, prefixes=(b"",), limit=1)
        except JournalError as error:
            return failed("journal", str(error))
    kept = f"offsets {page.first_available} to {page.last}" if page.first_available else "no events"
    return passed("journal", f"{path} holds {kept}")


def addresses(settings: Settings) -> Iterator[Finding]:
    """Bind both addresses for a moment."""
    yield address(settings.pub_endpoint, ipv6=settings.ipv6)
    if settings.query_endpoint is not None:
        yield address(settings.query_endpoint, "query_endpoint", ipv6=settings.ipv6)


def address(endpoint: str, setting: str = "pub_endpoint", *, ipv6: bool = False) -> Finding:
    """Bind an address for a moment; not an IPC address, as libzmq silently replaces a running program's socket file."""
    if endpoint.startswith("ipc://"):
        folder = Path(endpoint.removeprefix("ipc://")).parent
        if holder := holder_of(endpoint):
            return failed(setting, f"{endpoint} is taken by {holder}: stop it, or use another address")
        if not folder.is_dir():
            return failed(setting, f"{endpoint}: there is no folder {folder}: make it, or use another address")
        return passed(setting, f"{endpoint} is free")
    if error := bind_error(endpoint, ipv6=ipv6):
        return failed(setting, bind_failure(endpoint, error, setting=setting).removeprefix(f"{setting} "))
    return passed(setting, f"{endpoint} is free")


def keys(settings: Settings) -> Iterator[Finding]:
    """Read the daemon's keys and the files of its clients."""
    if settings.curve_secret_key is not None and settings.curve_clients is not None:
        yield _server_keys(settings.curve_secret_key)
        yield from _client_keys(settings.curve_clients, settings.topic_suffix)


def _server_keys(path: Path) -> Finding:
    try:
        public = read_server_pair(path).public
    except SettingsError as error:
        return failed("curve_secret_key", str(error))
    if is_exposed(path):
        return failed("curve_secret_key", f"{path} may be read by other users of this machine: chmod 600 {path}")
    return passed("curve_secret_key", f"{path}: clients need its public key {public}")


def _client_keys(folder: Path, topic_suffix: str) -> Iterator[Finding]:
    try:
        found = read_clients(folder, fingerprint(folder), topic_suffix)
    except OSError as error:
        text = f"{folder} cannot be read ({error.strerror or error}); make it, or correct the path"
        yield failed("curve_clients", text)
        return
    for fault in list(found.faults.values())[:FAULTS_SHOWN]:
        yield failed("curve_clients", fault)
    if not found.faults:
        yield passed("curve_clients", f"{folder}: {len(found)} client(s) may connect")


def servers(names: tuple[str, ...], limit_s: float = CONNECT_LIMIT_S) -> Iterator[Finding]:
    """Resolve and connect to all servers at the same time, for at most ``limit_s`` together.

    A name look-up has no timeout, so a thread that hangs in one is abandoned.
    """
    found: dict[str, Finding] = {}

    def check(name: str) -> None:
        found[name] = server(name, limit_s)

    threads = [threading.Thread(target=check, args=(name,), name=f"check {name}", daemon=True) for name in names]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + limit_s
    for name, thread in zip(names, threads, strict=True):
        thread.join(max(0.0, deadline_s - time.monotonic()))
        yield found.get(name) or failed("server", f"{name} did not answer within {limit_s:g} s; {NO_ANSWER_CURE}")


def server(name: str, limit_s: float) -> Finding:
    """Connect to a server by IPv4 alone, as the vendor's library does; each address for ``limit_s`` seconds."""
    host, port = host_and_port(name)
    fault = f"{name}: the name has no address; correct servers, or check DNS"
    try:
        for *_, place in socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM):
            try:
                with socket.create_connection((str(place[0]), port), timeout=limit_s) as connection:
                    return passed("server", f"{name} answers at {connection.getpeername()[0]} port {port}")
            except OSError as error:
                fault = f"{name} port {port} does not answer ({error}); {NO_ANSWER_CURE}"
    except socket.gaierror as error:
        fault = f"{name}: name not found ({error.strerror}); correct servers, or check DNS"
        if _has_ipv6(host, port):
            fault = f"{name}: the name has IPv6 addresses only (AAAA), and {IPV4_ONLY}"
    except UnicodeError as error:
        fault = f"{name} port {port} does not answer ({error}); {NO_ANSWER_CURE}"
    return failed("server", fault)


def _has_ipv6(host: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM))
    except OSError:
        return False


def host_and_port(server: str) -> tuple[str, int]:
    """Return host and port of ``host``, ``host:port`` or ``[ipv6]:port``."""
    if server.endswith("]") or ":" not in server:
        return server.strip("[]"), DEFAULT_PORT
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)
