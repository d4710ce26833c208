"""``python -m tests.wine32 [pytest's arguments]``: the fake x86 DLL and the unit suite on a 32-bit Python, under Wine.

Outside the gate: it takes many minutes, root, and Debian's ``debootstrap``. Left out is what the 64-bit run under Wine
leaves out (``tests/wine/test_unit_suite.py``), and what needs tools without a wheel for 32-bit Python. Without
arguments it is all of ``tests``. Exit code: pytest's.
"""

from __future__ import annotations

import sys

from tests.vendor.compile import WINDOWS_32, compile_fake
from tests.vendor.fixtures import COMPILED
from tests.wine.machine import ROOT
from tests.wine.machine32 import machine32, missing
from tests.wine.test_unit_suite import AT_ONCE, HANG_S, NOT_COLLECTED, STEADY

OPTIONS = (*AT_ONCE, "-q", "--tb=short", "-p", "no:cacheprovider", f"--timeout={HANG_S}")
AS_THEY_HAPPEN = ("-p", "tests.wine.failures")
NO_FAULT_HANDLER = ("-p", "no:faulthandler")
"""The vendor's 32-bit DLLs raise exceptions of their own and handle them; it would print each."""


def main() -> int:
    """Make the machine when it is not there, run pytest on it, print its output as it comes."""
    if reason := missing():
        print(f"tests.wine32: {reason}", file=sys.stderr)
        return 3
    machine = machine32()
    library = compile_fake(machine.home / "fake", WINDOWS_32)
    left_out = [f"--ignore={name}" for name in NOT_COLLECTED]
    chosen = sys.argv[1:] or ["tests"]
    arguments = ["-m", "pytest", *OPTIONS, *AS_THEY_HAPPEN, *NO_FAULT_HANDLER, *left_out, *chosen]
    extra = {COMPILED: machine.windows(library), **STEADY}
    with machine.start(machine.python, *arguments, cwd=ROOT, extra=extra) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
