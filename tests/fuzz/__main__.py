"""Run one fuzzer as long as wanted: ``python -m tests.fuzz TARGET [OPTION ...]``; TARGET is a module in this folder."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

TARGETS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def main(arguments: list[str]) -> int:
    """Run the target that the first argument names, with the others; return its exit code, 2 for no such target."""
    if not arguments or arguments[0] not in TARGETS:
        sys.stderr.write(f"usage: python -m tests.fuzz TARGET [OPTION ...]\ntargets: {', '.join(TARGETS)}\n")
        return 2
    target, *options = arguments
    code: int = import_module(f"tests.fuzz.{target}").main(options)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
