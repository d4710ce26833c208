"""``mt4pump-archive`` and ``python -m mt4pump_consumers.archive``.

Without a command the program archives; the commands read the folder.
"""

from __future__ import annotations

import sys

from mt4pump.client import mend_streams
from mt4pump.process.program import EXIT_SETTINGS, EXIT_START, Shutdown, did_you_mean, run_consumer
from mt4pump_consumers.archive.commands import COMMANDS, parser_of
from mt4pump_consumers.archive.settings import ArchiveSettings

DESCRIPTION = (
    "Archive: every event in Parquet files or a database, durable ones exactly once.\n\n"
    f"Commands that read it or import into it: {', '.join(COMMANDS)}; mt4pump-archive COMMAND --help.\n\n"
    "  mt4pump-archive --path archive                everything, until Ctrl-C\n"
    "  mt4pump-archive --topics 'quote.*,trade.*'    quotes and trades alone"
)


def run() -> int:
    """Run a command, or archive until asked to end; return the exit code."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        return _command(word)
    if word and not word.startswith("-"):
        cure = did_you_mean(word, COMMANDS, f"there are {', '.join(COMMANDS)}")
        print(f"mt4pump-archive: there is no command {word!r}; {cure}", file=sys.stderr)  # noqa: T201 - no log yet
        return EXIT_SETTINGS
    return run_consumer(ArchiveSettings, _main, DESCRIPTION)


def _main(settings: ArchiveSettings, shutdown: Shutdown) -> int:
    from mt4pump_consumers.archive.archive import main  # noqa: PLC0415 - its libraries may be missing, and --help works

    return main(settings, shutdown)


def _command(name: str) -> int:
    mend_streams()
    options = parser_of(name).read(sys.argv[2:])
    try:
        from mt4pump_consumers.archive import importing, reading  # noqa: PLC0415 - their libraries may be missing
    except ModuleNotFoundError as error:
        text = f"mt4pump-archive: the library {error.name} is not installed; {ArchiveSettings.libraries}"
        print(text, file=sys.stderr)  # noqa: T201 - the command's own output
        return EXIT_START
    return importing.run(options) if name == "import" else reading.run(options)


if __name__ == "__main__":
    sys.exit(run())
