"""Runs a module as a program that ends when its parent does: ``python -m mt4pump.process.parent_watch MODULE WORDS``.

The parent holds the other end of our standard input and writes nothing. When it closes it, or dies in whatever way,
the read here ends: the program is asked to end as by Ctrl-C, and if it does not, the process ends without it.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from threading import Thread

from mt4pump.errors import EXIT_FAILED
from mt4pump.process.signals import ask_to_end

GRACE_S = 8.0
"""Longer than a living parent waits for the program's end."""


def main() -> None:
    """Run the module that the words name."""
    Thread(target=_end_with_parent, args=(sys.stdin.fileno(),), name="parent watch", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent(end: int) -> None:
    while os.read(end, 1024):
        pass  # what the parent writes has no meaning
    ask_to_end()
    time.sleep(GRACE_S)
    os._exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
