"""The whole suite, run by CPython for Windows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vendor.fixtures import COMPILED
from tests.wine.machine import ROOT, Machine

LIMIT_S = 1500
COMPILER = "compiles: the compiler runs on the host, and its library is handed in ready"
OWNERS = "asks psutil whose a socket or a process is, which Wine 8 does not tell"
LEFT_OUT = {
    "tests/vendor/test_compile.py": COMPILER,
    "tests/vendor/test_decorations.py": COMPILER,
    "tests/bridge/test_library.py::TestLoad::test_missing_export_is_named": COMPILER,
    "tests/cli/test_check.py::test_a_taken_address_is_3_and_names_the_program": OWNERS,
    "tests/test_address_holder.py::test_a_listener_on_all_addresses_is_found_for_each": OWNERS,
    "tests/test_address_holder.py::test_the_program_that_listens_is_named_with_its_pid": OWNERS,
    "tests/query/test_server.py::test_an_address_that_is_taken_is_named_with_its_setting": OWNERS,
    "tests/test_stop.py::test_a_taken_address_exits_with_3_and_says_who_has_it": OWNERS,
}
"""What cannot run there, and why; tests that are not about Windows at all skip themselves with a reason."""
PASSED = re.compile(r"^(\d+) passed", re.MULTILINE)
AT_LEAST = 2000


@pytest.mark.timeout(LIMIT_S + 60)
def test_everything_that_can_run_on_a_windows_python_passes(windows: Machine, library: Path) -> None:
    left_out = [f"--deselect={name}" for name in LEFT_OUT]
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "--ignore=tests/wine", "--timeout=120"]
    done = windows.run(
        windows.python,
        "-m",
        "pytest",
        *options,
        *left_out,
        "tests",
        cwd=ROOT,
        extra={COMPILED: windows.windows(library)},
        limit_s=LIMIT_S,
    )
    print(done.stdout[-8000:])  # noqa: T201 - shown by pytest when the test fails
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    passed = PASSED.search(done.stdout)
    assert passed, "pytest printed no summary"
    assert int(passed[1]) >= AT_LEAST, "far fewer tests ran than there are"
