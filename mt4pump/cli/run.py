"""``mt4pump run``: the daemon."""

from __future__ import annotations

import argparse
import gc
import logging
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event

from mt4pump import log as logs
from mt4pump.cli.arguments import add_settings, given_settings
from mt4pump.daemon import Daemon
from mt4pump.errors import SettingsError, StartError
from mt4pump.process.reload import ReloadWatcher
from mt4pump.process.signals import asked_to_end, asked_to_reload
from mt4pump.process.systemd import Notifier
from mt4pump.publisher.faults import wire_faults_of
from mt4pump.settings import Settings, load
from mt4pump.settings.reloading import reread
from mt4pump.wiring import source_of

WAIT_SLICE_S = 0.2
"""Windows does not interrupt a longer wait for Ctrl-C."""

log = logging.getLogger(__name__)


def run(settings: Settings, load: Callable[[], Settings]) -> int:
    """Run the daemon until a signal; return the exit code. ``load`` reads the settings anew for a reload.

    Raises StartError when it cannot start.
    """
    sys.setswitchinterval(settings.switch_interval_s)
    source, life_s = source_of(settings), wire_faults_of(settings.wire_faults).restart_s or math.inf
    with asked_to_end() as end, asked_to_reload(end) as hangup, ExitStack() as at_end:
        if life_s < math.inf:  # the simulated server lives on while daemons come and go
            at_end.callback(source.stop)
            source = source._replace(start=_once(source.start), stop=_nothing)
        daemon = Daemon(settings, source)
        clean = _live(daemon, settings, load, end=end, hangup=hangup, life_s=life_s)
        while clean and daemon.crash is None and not end.is_set():
            log.warning("wire fault: the daemon begins a new life, as it does every %g s", life_s)
            same = {"pub_endpoint": daemon.endpoint, "query_endpoint": daemon.query_endpoint}
            daemon = Daemon(settings.model_copy(update=same), source)
            clean = _live(daemon, settings, load, end=end, hangup=hangup, life_s=life_s)
    if daemon.crash is not None:
        log.error("ended by a crash of its own: %r", daemon.crash)
        return 1
    log.info("stopped%s", "" if clean else "; something was left behind, as told above")
    return 0


def _live(
    daemon: Daemon, settings: Settings, load: Callable[[], Settings], *, end: Event, hangup: Event, life_s: float
) -> bool:
    """Run one daemon until the end, its crash, or for ``life_s``; return whether it stopped clean."""
    desk = ReloadWatcher(settings.data_dir)
    gc.collect()
    gc.freeze()  # what lives for ever need not be looked at again
    until_s = time.monotonic() + life_s
    notifier = Notifier.of_environment()
    try:
        daemon.start()
        notifier.ready(_in_words(daemon))
        while not end.wait(WAIT_SLICE_S) and daemon.crash is None and time.monotonic() < until_s:
            daemon.look_after()
            notifier.turned(daemon.turns)
            notifier.status(_in_words(daemon))
            asked = desk.poll()
            if asked is not None or hangup.is_set():
                hangup.clear()
                settings = _reload(daemon, settings, load, desk)
        log.info("stopping")
        if time.monotonic() < until_s:
            notifier.stopping()
    finally:
        clean = daemon.stop()
    return clean


def _in_words(daemon: Daemon) -> str:
    """Return what ``systemctl status`` shows."""
    return f"session {daemon.state}; publishes on {daemon.endpoint}"


def _once(act: Callable[[], None]) -> Callable[[], None]:
    """Return what does ``act`` when it is called for the first time."""
    waiting = [act]
    return lambda: waiting.pop()() if waiting else None


def _nothing() -> None:
    """Do nothing."""


def _reload(daemon: Daemon, settings: Settings, load: Callable[[], Settings], desk: ReloadWatcher) -> Settings:
    """Take over what can be taken over while running, say what cannot, and return the settings that now hold."""
    try:
        found = reread(settings, load)
        if found.ok:
            daemon.reload_permissions()
        if "symbols" in found.changed_now:
            daemon.select(found.settings.symbols)
    except Exception as error:  # whatever it is, it shall not end a daemon that works
        log.exception("reload: failed, the settings stay as they were")
        text = f"failed by an error of the daemon's own ({type(error).__name__}): its log says more, please report it"
        desk.answer(text, ok=False)
        return settings
    log.log(logging.INFO if found.ok else logging.ERROR, "reload: %s", found.text)
    desk.answer(found.text, ok=found.ok)
    return found.settings


logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    add_settings(parser)


def command(args: argparse.Namespace) -> int:
    """Run until stopped. Returns 0 after a clean stop, 2 settings wrong, 3 cannot start, 1 anything else."""
    settings = load(given_settings(args), config=args.config)
    secrets = [settings.password.get_secret_value()] if settings.password else []
    logs.configure(settings.log_level, settings.log_format, secrets)
    try:
        return _run(settings, lambda: load(given_settings(args), config=args.config))
    except SettingsError as error:
        logger.error("settings are wrong: %s", error)  # noqa: TRY400 - the text says it all, a traceback would hide it
        return 2
    except StartError as error:
        logger.error("cannot start: %s", error)  # noqa: TRY400
        return 3
    except KeyboardInterrupt:  # before the daemon took over the signals
        return 0
    except Exception:
        logger.exception("stopped by an error that should not happen; please report it")
        return 1


def _run(settings: Settings, reload: Callable[[], Settings]) -> int:
    return run(settings, reload)
