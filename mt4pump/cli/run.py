"""``mt4pump run``: starts the daemon, applies changed settings, and stops it at a signal."""

from __future__ import annotations

import argparse
import functools
import gc
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event

from mt4pump import log as logs
from mt4pump.daemon import Daemon
from mt4pump.errors import EXIT_FAILED, EXIT_OK, EXIT_SETTINGS, EXIT_START, SettingsError, StartError
from mt4pump.process.arguments import add_settings, given_settings
from mt4pump.process.program import WAIT_SLICE_S, check_descriptors
from mt4pump.process.settings import read, secrets_in
from mt4pump.process.signals import asked_to_end, asked_to_reload
from mt4pump.process.systemd import Notifier
from mt4pump.publisher.capacity import raise_limit
from mt4pump.session_source import source_of
from mt4pump.settings import Settings, load, settings_file
from mt4pump.settings.wire_faults import wire_faults_of

AT_ONCE = ("symbols",)
"""Settings that a running daemon takes over. It reads the files in ``curve_clients`` again too; they are no setting."""
CHECK_INTERVAL_S = 1.0
FileFingerprint = tuple[int, int, int]
COLLECTOR_THRESHOLDS = 10_000, 20, 50
"""Containers made and not freed until the collector visits the young, the middle, all; CPython: 700, 10, 10."""
EXAMPLES = """\
  mt4pump run --source simulator                          a simulated market, on tcp://127.0.0.1:5556
  mt4pump run --config C:\\mt4pump\\mt4pump.toml            a Manager session, with the settings of this file"""

log = logging.getLogger(__name__)


class FileWatch:
    """Reports that ``file`` changed, by its time, size and inode; for one thread.

    A change counts when two checks in a row find the same file, so that a half-written one is not read. A file that is
    missing or unreadable has not changed: an editor may be replacing it.
    """

    def __init__(self, file: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._now_s = now_s
        self._check_at_s = now_s() + CHECK_INTERVAL_S
        self._read = self._found = self._fingerprint()

    def has_changed(self) -> bool:
        """Return whether the file changed since the last True; read its state at most once a second."""
        now_s = self._now_s()
        if now_s < self._check_at_s:
            return False
        self._check_at_s = now_s + CHECK_INTERVAL_S
        before, self._found = self._found, self._fingerprint()
        if self._found in (None, self._read) or self._found != before:
            return False
        self._read = self._found
        return True

    def _fingerprint(self) -> FileFingerprint | None:
        try:
            state = self._file.stat()
        except (OSError, ValueError):  # ValueError: a path that no system takes; reading the settings reports it
            return None
        return state.st_mtime_ns, state.st_size, state.st_ino


def take_over(old: Settings, new: Settings) -> tuple[Settings, str]:
    """Return the settings that are in force from now on, and for people what changed: names, never values.

    Of ``new`` only those of `AT_ONCE` come into force, so that the next reading names the others again.
    """
    changed = [name for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]
    now = [name for name in changed if name in AT_ONCE]
    text = f"taken over: {', '.join(now)}" if now else "no setting to take over changed"
    if later := [name for name in changed if name not in AT_ONCE]:
        text += f"; needs a restart: {', '.join(later)}"
    return old.model_copy(update={name: getattr(new, name) for name in now}), text


class Reloading:
    """Applies changes of the settings file while the daemon runs; for the main thread.

    ``load`` reads all sources again, ``hangup`` is set by SIGHUP. Wrong settings change nothing: they are logged, and
    counted as ``settings_refused`` in the heartbeat's ``errors``.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings], watch: FileWatch, hangup: Event) -> None:
        self.settings = settings
        self._load = load
        self._watch = watch
        self._hangup = hangup

    def check(self, daemon: Daemon) -> None:
        """Read the settings again if their file changed; after SIGHUP in any case, and the clients' keys too."""
        changed, asked = self._watch.has_changed(), self._hangup.is_set()
        if not (changed or asked):
            return
        self._hangup.clear()
        try:
            if asked:
                daemon.reload_permissions()
            self._apply(daemon)
        except Exception:  # no error of a reload may end a daemon that works
            daemon.fault_counters.count("internal_error")
            log.exception("reload: failed by an error of the daemon's own, the settings stay; please report it")

    def _apply(self, daemon: Daemon) -> None:
        try:
            settings, text = take_over(self.settings, self._load())
        except SettingsError as error:
            daemon.fault_counters.count("settings_refused")
            log.error("reload: nothing changed: %s", error)  # noqa: TRY400 - a traceback would hide the text
            return
        if settings.symbols != self.settings.symbols:
            daemon.select(settings.symbols)
        log.info("reload: %s", text)
        self.settings = settings


def run(settings: Settings, load: Callable[[], Settings], watch: FileWatch) -> int:
    """Run the daemon until a signal and return the exit code; raises StartError.

    ``load`` reads the settings again when ``watch`` finds that their file changed.
    """
    sys.setswitchinterval(settings.switch_interval_s)
    source, run_s = source_of(settings), wire_faults_of(settings.wire_faults).restart_s or math.inf
    with asked_to_end() as end, asked_to_reload(end) as hangup, ExitStack() as at_end:
        if run_s < math.inf:  # the simulated server runs on while daemons start and stop
            at_end.callback(source.stop)
            source = source._replace(start=functools.cache(source.start), stop=lambda: None)
        reloading = Reloading(settings, load, watch, hangup)
        daemon = Daemon(settings, source)
        while (clean := _run_one(daemon, reloading, end, run_s)) and daemon.crash is None and not end.is_set():
            log.warning("wire fault: the daemon restarts every %g s", run_s)
            same = {"pub_endpoint": daemon.endpoint, "query_endpoint": daemon.query_endpoint}
            daemon = Daemon(reloading.settings.model_copy(update=same), source)
    if daemon.crash is not None:
        log.error("ended by a crash of its own: %r", daemon.crash)
        return EXIT_FAILED
    log.info("stopped%s", "" if clean else "; not everything ended in time, as logged above")
    return EXIT_OK


def _run_one(daemon: Daemon, reloading: Reloading, end: Event, run_s: float) -> bool:
    """Run one daemon until the end, its crash, or for ``run_s``; return whether it stopped cleanly."""
    prepare_collector()
    until_s = time.monotonic() + run_s
    notifier = Notifier.of_environment()
    is_frozen = False
    try:
        daemon.start()
        notifier.ready(_status(daemon))
        while not end.wait(WAIT_SLICE_S) and daemon.crash is None and time.monotonic() < until_s:
            daemon.check_threads()
            daemon.delete_old_files()
            if not is_frozen and daemon.has_baseline:
                # Else the collector stops all threads for tenths of a second to visit the tables of 100,000 accounts.
                gc.freeze()
                is_frozen = True
            notifier.ping_watchdog(daemon.iterations)
            notifier.status(_status(daemon))
            reloading.check(daemon)
        log.info("stopping")
        if time.monotonic() < until_s:
            notifier.stopping()
    finally:
        clean = daemon.stop()
    return clean


def prepare_collector() -> None:
    """Make the garbage collector run rarely: with large tables each of its runs stops all threads for 20 to 80 ms."""
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    gc.unfreeze()  # what an earlier daemon left can be collected
    gc.collect()
    gc.freeze()  # objects of the whole run need not be visited again


def _status(daemon: Daemon) -> str:
    """Return what ``systemctl status`` shows."""
    return f"session {daemon.state}; publishes on {daemon.endpoint}"


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.epilog = EXAMPLES
    add_settings(parser, Settings)


def run_command(args: argparse.Namespace) -> int:
    """Run until stopped. Returns 0 after a clean stop, 2 settings wrong, 3 cannot start, 1 anything else."""
    watch = FileWatch(settings_file(os.environ, args.config))  # before the first reading, so that no change is missed
    loaded = read(Settings, given_settings(args), config=args.config)
    settings = loaded.settings
    logs.configure(settings.log_level, settings.log_format, secrets_in(settings))
    for note in loaded.notes:
        log.warning("%s", note)
    read_settings = functools.partial(load, given_settings(args), config=args.config)
    try:
        raise_limit()
        check_descriptors()
        return run(settings, read_settings, watch)
    except SettingsError as error:
        log.error("settings are wrong: %s", error)  # noqa: TRY400 - a traceback would hide the text
        return EXIT_SETTINGS
    except StartError as error:
        log.error("cannot start: %s", error)  # noqa: TRY400
        return EXIT_START
    except KeyboardInterrupt:  # before the daemon handles signals
        return EXIT_OK
    except Exception:
        log.exception("stopped by an error that should not happen; please report it")
        return EXIT_FAILED
