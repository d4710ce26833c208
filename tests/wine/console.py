"""Console events that Wine's own `GenerateConsoleCtrlEvent` does not know: Ctrl-Break, the window closed, shutdown.

Windows raises every one of them by a thread of the process at ``CtrlRoutine``, which asks the handlers one after the
other and ends the process if none takes it. So does this, from inside the process, as soon as a file is there.
"""

from __future__ import annotations

BREAK, CLOSE, SHUTDOWN = 1, 2, 6
EVENTS = {"Ctrl-Break": BREAK, "the window closed": CLOSE, "shutdown": SHUTDOWN}

_LAUNCHER = """\
import ctypes, runpy, sys, threading, time
from pathlib import Path

event, go, module, *words = sys.argv[1:]

def raise_it():
    while not Path(go).exists():
        time.sleep(0.05)
    routine = ctypes.cast(ctypes.WinDLL("kernelbase").CtrlRoutine, ctypes.c_void_p)
    ctypes.WinDLL("kernel32").CreateThread(None, 0, routine, ctypes.c_void_p(int(event)), 0, None)

threading.Thread(target=raise_it, daemon=True).start()
sys.argv = [module, *words]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def raising(event: int, go: str, module: str, *arguments: str) -> tuple[str, ...]:
    """Return the words for Python that run ``module`` and raise ``event`` in it once the file ``go`` is there."""
    return ("-u", "-c", _LAUNCHER, str(event), go, module, *arguments)
