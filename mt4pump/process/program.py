"""What a consumer has around it: settings, log, signals, the service manager, the exit code.

A consumer is a class of settings (see `ConsumerSettings`) and a function ``main(settings, shutdown) -> exit code``;
`run_consumer` runs it. Exit codes: 0 clean stop, 2 settings wrong, 3 cannot start, 1 anything else.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationInfo, field_validator

from mt4pump import log as logs
from mt4pump.errors import (
    CONSTRAINTS_PLACE,
    EXIT_FAILED,
    EXIT_SETTINGS,
    EXIT_START,
    SettingsError,
    StartError,
    did_you_mean,
)
from mt4pump.log import mend_streams
from mt4pump.process.arguments import ProgramParser, add_settings, given_settings
from mt4pump.process.endpoints import next_port
from mt4pump.process.old_files import SERVICE_LOGS, OldFiles, service_log_rules
from mt4pump.process.settings import Loaded, ProgramSettings, read, secrets_in, setting
from mt4pump.process.signals import SignalSafeEvent, asked_to_end
from mt4pump.process.systemd import Notifier
from mt4pump.process.values import LogFormat, LogLevel, PathValue, none_or_text

__all__ = [
    "CONSTRAINTS_PLACE",
    "EXIT_FAILED",
    "EXIT_SETTINGS",
    "EXIT_START",
    "ConsumerSettings",
    "Shutdown",
    "StartError",
    "check_descriptors",
    "did_you_mean",
    "run_consumer",
    "settings_of",
]

WAIT_SLICE_S = 0.2
"""Windows does not interrupt a longer wait for Ctrl-C."""
OURS = ("mt4pump", "mt4pump_consumers")
DAEMON, LOGS = "Daemon", "Logs"
SOURCES = (
    "Settings, strongest first: flags, environment ({prefix}...), the TOML file that --config or {prefix}CONFIG names, "
    '.env in the working directory, else ./{file}, defaults. Lists are written a,b or ["a", "b"]. A name that is not '
    "known stops the program, and so does a file that other users may change."
)
HELP_COLUMNS = 79
DESCRIPTORS_NEEDED = 40
"""File descriptors that a program needs to start. libzmq ends the process where it gets none."""

log = logging.getLogger(__name__)


class ConsumerSettings(ProgramSettings):
    """Where the stream is and how to log. A consumer derives its own settings from this; ``none`` unsets a setting."""

    libraries: ClassVar[str] = (
        f"the consumers' libraries come with: pip install -c deploy/constraints.txt 'mt4pump[consumers]' "
        f"({CONSTRAINTS_PLACE})"
    )
    """What to install when one is missing."""

    endpoint: str = setting(DAEMON, "address that mt4pump publishes on", "tcp://127.0.0.1:5556", metavar="ADDRESS")
    query_endpoint: str | None = setting(
        DAEMON, "address that mt4pump answers queries on; the next port after endpoint's if not set", metavar="ADDRESS"
    )
    keys: PathValue | None = setting(DAEMON, "file of CURVE keys that `mt4pump keygen client` made")
    log_level: LogLevel = setting(LOGS, "least important lines to log", "info")
    log_format: LogFormat = setting(LOGS, "lines for people, or one JSON object per line", "human")

    @property
    def query_address(self) -> str:
        """Return where queries go: as set, or the port after the stream's; raises ValueError where it has none."""
        address = self.query_endpoint or next_port(self.endpoint)
        if address is None:
            raise ValueError(f"endpoint {self.endpoint} has no port to count on from: give query-endpoint")
        return address

    @field_validator("*", mode="before")
    @classmethod
    def _none_unsets(cls, value: Any, info: ValidationInfo) -> Any:
        return none_or_text(value) if cls.model_fields[str(info.field_name)].default is None else value


C = TypeVar("C", bound=ConsumerSettings)


def check_descriptors() -> None:
    """Raise StartError if the process cannot open as many files and sockets as a start needs."""
    with ExitStack() as opened:
        for count in range(DESCRIPTORS_NEEDED):
            try:
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            except OSError as error:
                text = f"{DESCRIPTORS_NEEDED} file descriptors are needed, {count} are left ({error.strerror})"
                raise StartError(f"{text}: raise LimitNOFILE or ulimit -n") from error


class Shutdown:
    """Whether the program is to end: asked by a signal, the service manager, or itself; for threads and asyncio.

    Every check by the main thread pings the service manager's watchdog, the first one reports that the program is
    ready: a consumer checks as soon as it has bound what it serves on, and all the time from then on. It also
    starts the deletion of ``old_files`` when that is due.
    """

    def __init__(
        self,
        event: threading.Event | None = None,
        notifier: Notifier | None = None,
        status: str = "",
        old_files: OldFiles | None = None,
    ) -> None:
        self._event = event or SignalSafeEvent()
        self._notifier = notifier or Notifier(None)
        self._status = status
        self._old_files = old_files or OldFiles(())
        self._checks = 0
        self._is_reported = False

    def ask(self) -> None:
        """Ask the program to end; from any thread."""
        self._event.set()

    def asked(self) -> bool:
        """Return whether somebody asked the program to end."""
        is_asked = self._event.is_set()
        if threading.current_thread() is threading.main_thread():
            self._checks += 1
            if is_asked:
                self.report_stopping()
                return True
            if self._checks == 1:
                self._notifier.ready(self._status)
            self._notifier.ping_watchdog(self._checks)
            self._old_files.check()
        return is_asked

    @property
    def old_logs_deleted(self) -> int:
        """Return how many rotated logs of this service were deleted; for any thread."""
        return self._old_files.counts[SERVICE_LOGS]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until asked to end, or ``timeout_s``; return whether asked."""
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self.asked() and (left_s := until_s - time.monotonic()) > 0:
            self._event.wait(min(WAIT_SLICE_S, left_s))
        return self._event.is_set()

    async def wait_async(self) -> None:
        """Wait until asked to end; works on every event loop, also where signals do not wake it."""
        while not self.asked():  # noqa: ASYNC110 - signals set a flag of threads
            await asyncio.sleep(WAIT_SLICE_S)

    def report_stopping(self) -> None:
        """Report to the service manager, once, that the program ends."""
        if not self._is_reported:
            self._is_reported = True
            self._notifier.stopping()


def settings_of(schema: type[C], arguments: Sequence[str], description: str = "") -> Loaded[C]:
    """Return the settings by ``arguments`` (flags) and the other sources; ends the program on ``--help``.

    Raises SettingsError.
    """
    naming = schema.naming()
    sources = textwrap.fill(SOURCES.format(prefix=naming.prefix, file=naming.file), HELP_COLUMNS)
    parser = ProgramParser(naming.program, f"{description}\n\n{sources}")
    add_settings(parser, schema)
    args = parser.read(arguments)
    return read(schema, given_settings(args), config=args.config)


def run_consumer(
    schema: type[C], main: Callable[[C, Shutdown], int], description: str, arguments: Sequence[str] | None = None
) -> int:
    """Read the settings, run ``main`` until it ends or is asked to, and return the exit code."""
    mend_streams()
    try:
        loaded = settings_of(schema, sys.argv[1:] if arguments is None else arguments, description)
    except SettingsError as error:
        print(f"{schema.program}: {error}", file=sys.stderr)  # noqa: T201 - no log yet
        return EXIT_SETTINGS
    settings = loaded.settings
    logs.configure(settings.log_level, settings.log_format, secrets_in(settings))
    for note in loaded.notes:
        log.warning("%s", note)
    with asked_to_end() as event:
        old_files = OldFiles(service_log_rules(schema.program.removeprefix("mt4pump-")))
        shutdown = Shutdown(event, Notifier.of_environment(), f"reads {settings.endpoint}", old_files)
        try:
            check_descriptors()
            return main(settings, shutdown)
        except StartError as error:
            log.error("cannot start: %s", error)  # noqa: TRY400 - the text says it all
            return EXIT_START
        except Exception as error:
            missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
            if missing and missing not in OURS:
                log.error("cannot start: the library %s is not installed; %s", missing, schema.libraries)  # noqa: TRY400
                return EXIT_START
            log.exception("ended by an error that should not happen; please report it")
            return EXIT_FAILED
        finally:
            shutdown.report_stopping()
