"""From the command line to ``main``: settings, log, signals, exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from pydantic_settings import SettingsError

from mt4pump.client import Notifier, mend_streams, one_line
from mt4pump_consumers.frame import logs
from mt4pump_consumers.frame.report import Report
from mt4pump_consumers.frame.settings import Settings, read
from mt4pump_consumers.frame.shutdown import Shutdown

CLEAN, FAILED, SETTINGS_WRONG, CANNOT_START = 0, 1, 2, 3

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """What keeps a consumer from starting: an address that is taken, a file that cannot be read. Exit code 3."""


def run_consumer(
    settings_class: type[Settings],
    main: Callable[[Settings, Shutdown], int],
    description: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Read the settings, run ``main`` until it ends or is asked to, and return the exit code."""
    mend_streams()
    settings_class.__doc__ = description
    program = str(settings_class.model_config["cli_prog_name"])
    try:
        settings = read(settings_class, list(sys.argv[1:] if arguments is None else arguments))
    except ValidationError as error:
        for problem in error.errors():
            name = "-".join(str(part) for part in problem["loc"]).replace("_", "-") or "settings"
            what = problem["msg"].removeprefix("Value error, ")  # pydantic's words for a refusal of ours
            print(f"{program}: {one_line(f'{name}: {what}')}; {program} --help lists all", file=sys.stderr)  # noqa: T201 - no log yet
        return SETTINGS_WRONG
    except (SettingsError, ValueError) as error:
        print(f"{program}: {one_line(str(error))}", file=sys.stderr)  # noqa: T201 - no log yet
        return SETTINGS_WRONG
    logs.configure(settings.log_level, settings.log_format)
    report = Report(Notifier.of_environment(), f"reads {settings.endpoint}")
    ending = Shutdown(report.looked)
    with ending.on_signals():
        try:
            return main(settings, ending)
        except CannotStart as error:
            log.error("cannot start: %s", error)  # noqa: TRY400 - the text says it all
            return CANNOT_START
        except Exception:
            log.exception("ended by an error that should not happen; please report it")
            return FAILED
        finally:
            report.stopping()
