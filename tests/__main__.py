"""``python -m tests``: every check and every test, in the order in which they fail fastest.

Where no test may be skipped (``REQUIRE_ALL_TESTS``, which `.ci/run` sets), the tests on a Windows Python under Wine run
as well, which takes minutes more; ``WINDOWS_TESTS=1 python -m tests`` adds to them `NOT_STABLE`. Where a container
engine and the images of deploy/container are, ours named by ``MT4PUMP_IMAGE``, the compose file is run.
``python -m tests --quick`` leaves out the files that `tests/quick.py` lists, tries fewer examples, and ends within a
minute.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.container_engine import container_engine

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = ("-n", "2", "--dist", "loadfile")
"""Most tests wait for sockets and processes: two files at once take half the time."""
CHECKS = (
    ("lint", ["-m", "ruff", "check", "."]),
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("types", ["-m", "mypy"]),
    ("tests", ["-m", "pytest", *AT_ONCE, *sys.argv[1:]]),
)
WHEELS = "tests/deploy/test_offline.py"
NOT_STABLE = {
    "tests/wine/test_unit_suite.py": "takes a quarter of an hour and more beside a busy host, and was not run to its "
    "end since its faults were mended; why a connection ends without an answer in test_metrics_server is not known",
    "tests/wine/test_service.py": "passes at load 11 to 24, but was run four times only, not five in a row, and takes "
    "three minutes and more there",
    "tests/wine/test_older_nssm.py": "was run once",
}
"""The tests under Wine that do not pass whatever else the host does, and why: not in the gate."""
WINDOWS = ["-m", "pytest", "-m", "wine or index", "tests/wine", WHEELS]
"""One after the other: each process of pytest would set up a Windows machine of its own."""

COMPOSED = ["-m", "pytest", "-m", "index", "tests/deploy/test_compose.py"]
"""Runs where an engine, a compose program and all images are, ours named by ``MT4PUMP_IMAGE``: no registry is asked."""
CONTAINERS = "python -m pytest -m index tests/deploy/test_compose.py tests/deploy/test_container.py"
"""All tests that run containers. They build and pull what is not there, which needs registries: no step does it."""


def chosen() -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each step and the arguments that Python runs it with."""
    yield from CHECKS
    if os.environ.get("WINDOWS_TESTS"):
        yield "tests under Wine", WINDOWS
    elif os.environ.get("REQUIRE_ALL_TESTS"):
        yield "tests under Wine", [*WINDOWS, *(f"--ignore={name}" for name in NOT_STABLE)]
    if not container_engine().missing:
        yield "containers", COMPOSED


def left_out() -> str:
    """Return a line about the tests of containers that no step runs, and what they need."""
    missing = container_engine().missing
    what = f"the tests that run containers ({missing})" if missing else "the build of the container image"
    return f"left out: {what}: {CONTAINERS}"


def main() -> int:
    """Run all checks, also after one failed; return 0 only if all passed."""
    failed = []
    for name, command in chosen():
        print(f"== {name}", flush=True)  # noqa: T201 - a command line prints
        if subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(left_out(), flush=True)  # noqa: T201
    print(f"failed: {', '.join(failed)}" if failed else "all passed", flush=True)  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
