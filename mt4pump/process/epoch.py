"""The epoch of a run: ms since 1970 by the clock, but always above that of every run before on the same data folder.

A clock that was set back between two runs would otherwise make the epoch fall, and readers order runs by it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mt4pump.errors import StartError
from mt4pump.private_files import replace_file

FILE = "epoch"
EPOCH_LIMIT = 2**53
"""A number from here on is no epoch but a damaged file: it would be the year 287,396."""
READ_BYTES = 64

log = logging.getLogger(__name__)


def next_epoch(data_dir: Path, now_ms: int) -> int:
    """Return the epoch of the run that begins, and store it; raises StartError when it cannot be stored."""
    path = data_dir / FILE
    last = _last(path)
    epoch = max(now_ms, last + 1)
    if last > now_ms:
        log.warning(
            "the machine's clock is %.0f s behind the start of the run before: the epoch is that one's plus 1; "
            "check the clock",
            (last - now_ms) / 1000,
        )
    try:
        replace_file(path, b"%d\n" % epoch)
    except OSError as error:
        raise StartError(
            f"{path} cannot be written ({error.strerror or error}): it holds the epoch of this run, which must grow "
            "from run to run; make data_dir writable for this user and see that its disk is not full"
        ) from error
    return epoch


def _last(path: Path) -> int:
    """Return the epoch of the run before, 0 when there was none."""
    try:
        with path.open("rb") as file:
            text = file.read(READ_BYTES)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StartError(f"{path} cannot be read ({error.strerror or error}): let the daemon's user read it") from error
    number = int(text) if text.strip().isdigit() else -1
    if 0 <= number < EPOCH_LIMIT - 1:
        return number
    log.warning("%s holds no epoch (%r): this run's epoch is the machine's time", path, text)
    return 0
