"""The daemon as a program: from its settings to its exit code, with signals, reloads and its main thread."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable

from mt4pump.daemon import Daemon
from mt4pump.reload import ReloadDesk
from mt4pump.settings import Settings
from mt4pump.settings.reloading import reread
from mt4pump.signals import asked_to_end, asked_to_reload
from mt4pump.sources import source_of

WAIT_SLICE_S = 0.2
"""Windows does not interrupt a longer wait for Ctrl-C."""

log = logging.getLogger(__name__)


def run(settings: Settings, load: Callable[[], Settings]) -> int:
    """Run the daemon until a signal; return the exit code. ``load`` reads the settings anew for a reload.

    Raises StartError when it cannot start.
    """
    sys.setswitchinterval(settings.switch_interval_s)
    restart_s = wire_faults_of(settings.wire_faults).restart_s
    source = source_of(settings)
    if restart_s:
        source = outliving(source)
    with asked_to_end() as end, asked_to_reload(end) as hangup, closing_source(source):
        while True:
            daemon = Daemon(settings, source)
            desk = ReloadDesk(settings.data_dir)
            gc.collect()
            gc.freeze()  # what lives for ever need not be looked at again
            until_s = time.monotonic() + (restart_s or math.inf)
            try:
                daemon.start()
                while not end.wait(WAIT_SLICE_S) and daemon.crash is None and time.monotonic() < until_s:
                    asked = desk.poll()
                    if asked is not None or hangup.is_set():
                        hangup.clear()
                        settings = _reload(daemon, settings, load, desk)
                log.info("stopping")
            finally:
                clean = daemon.stop()
            if end.is_set() or daemon.crash is not None or not clean:
                break
            log.warning("wire fault: a new life after %g s", restart_s)
            settings = settings.model_copy(
                update={"pub_endpoint": daemon.endpoint, "query_endpoint": daemon.query_endpoint}
            )
    if daemon.crash is not None:
        log.error("ended by a crash of its own: %r", daemon.crash)
        return 1
    log.info("stopped%s", "" if clean else "; a call into the Manager API did not come back and was left behind")
    return 0


def _reload(daemon: Daemon, settings: Settings, load: Callable[[], Settings], desk: ReloadDesk) -> Settings:
    """Take over what can be taken over while running, say what cannot, and return the settings that now hold."""
    found = reread(settings, load)
    if found.ok:
        daemon.reload_permissions()
    if "symbols" in found.changed_now:
        daemon.select(found.settings.symbols)
    log.log(logging.INFO if found.ok else logging.ERROR, "reload: %s", found.text)
    desk.answer(found.text, ok=found.ok)
    return found.settings
