"""``mt4pump run``: the daemon."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from mt4pump import logs
from mt4pump.cli.flags import add_settings, given_settings
from mt4pump.errors import SettingsError, StartError
from mt4pump.settings import Settings, load

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
    from mt4pump.running.program import run  # noqa: PLC0415 - wrong settings must be told before sockets and rooms are loaded

    return run(settings, reload)
