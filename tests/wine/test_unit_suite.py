"""The unit suite, run by CPython for Windows: what touches files, sockets, locks, signals, loops, clocks or the DLL.

Left out is what says nothing about Windows, with the reason beside each name: documents and packages, programs of the
host, the compiler, pure computing, models that try hundreds of seeds, and what Wine cannot do or takes minutes for.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vendor.fixtures import COMPILED
from tests.wine.machine import ROOT, Machine

LIMIT_S = 1500
"""On a quiet machine it takes a fifth of that."""
AT_ONCE = ("-n", "2", "--dist", "loadfile")
HANG_S = 300
"""One test; pytest-timeout can only end the whole run there."""
COMPILER = "compiles: the compiler runs on the host, and its library is handed in ready"
HOST = "is about files, documents and packages: the host looks at them"
TOOLS = "drives programs that the host has"
MINUTES = "runs for minutes on purpose"
LIVES = "starts many processes, which takes Wine seconds each; test_daemon, test_service and test_consumers do it here"
PURE = "computes: nothing in it asks the system"
MODEL = "tries hundreds of moments and seeds; none of it is about the system"
NOT_COLLECTED = {
    "tests/wine": "this",
    "tests/bench": MINUTES,
    "tests/chaos": MINUTES,
    "tests/deploy": HOST,
    "tests/samples": TOOLS,
    "tests/service/test_guide.py": HOST,
    "tests/service/test_powershell.py": HOST,
    "tests/service/test_service.py": "drives a fake NSSM, a script of Unix; test_service here drives the real one",
    "tests/consumers/archive": "needs pyarrow and DuckDB, which the Windows Python of the tests does not have",
    "tests/consumers/gateway": TOOLS,
    "tests/consumers/metrics/test_alert_rules.py": TOOLS,
    "tests/consumers/metrics/test_dashboard.py": TOOLS,
    "tests/consumers/metrics/test_metrics_program.py": LIVES,
    "tests/consumers/metrics/test_real_prometheus.py": TOOLS,
    "tests/consumers/monitor/test_monitor_kills.py": LIVES,
    "tests/consumers/monitor/test_monitor_program.py": LIVES,
    "tests/consumers/nats_bridge": TOOLS,
    "tests/cli/test_operations.py": LIVES,
    "tests/protocol": PURE,
    "tests/pump/test_lifecycle.py": PURE,
    "tests/pump/test_table_diff.py": PURE,
    "tests/simulation": MODEL,
    "tests/test_escaping.py": PURE,
    "tests/journal/test_crash.py": LIVES,
    "tests/query/test_fuzz.py": "a thousand peers, one after the other; the server's answers are tested beside it",
    "tests/cli/test_bench.py": MINUTES,
    "tests/test_joins.py": MODEL,
    "tests/test_permission_matrix.py": "hundreds of encrypted connections at once; tests/security has each rule",
    "tests/test_readme.py": HOST,
    "tests/test_quick.py": HOST,
    "tests/test_repeat.py": TOOLS,
    "tests/test_layering.py": HOST,
    "tests/test_mistakes.py": "runs every program, also those whose packages the Windows Pythons of the tests lack",
    "tests/process/test_stop.py": LIVES,
    "tests/vendor/test_compile.py": COMPILER,
    "tests/vendor/test_decorations.py": COMPILER,
}
"""Files and folders that are not even read there, and why."""
STEADY = {"CI": "true", "PYTEST_ADDOPTS": '-m "not wine and not not_under_wine"'}
"""Has Hypothesis try the same examples each time, without a limit to the time of each; leaves out single tests, which
carry the mark and the reason. Those that are not about Windows at all skip themselves."""
SYSTEM = ("bridge", "process", "journal", "publisher", "security", "test_private_files.py")
"""What touches the system most: the DLL, processes, files, sockets, rights."""
PASSED = re.compile(r"^(\d+) passed", re.MULTILINE)
AT_LEAST, AT_LEAST_SYSTEM = 2000, 600


def run(windows: Machine, library: Path, *names: str) -> int:
    """Run these files and folders of tests on the machine, none of which may fail; return how many tests passed."""
    left_out = [f"--ignore={name}" for name in NOT_COLLECTED]
    options = [*AT_ONCE, "-q", "--tb=short", "-p", "no:cacheprovider", f"--timeout={HANG_S}", "--durations=25"]
    done = windows.run(
        windows.python,
        "-m",
        "pytest",
        *options,
        *left_out,
        *names,
        cwd=ROOT,
        extra={COMPILED: windows.windows(library), **STEADY},
        limit_s=LIMIT_S,
    )
    print(done.stdout[-8000:])  # noqa: T201 - shown by pytest when the test fails
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    passed = PASSED.search(done.stdout)
    assert passed, "pytest printed no summary"
    return int(passed[1])


@pytest.mark.timeout(LIMIT_S + 60)
def test_what_touches_the_system_passes_on_a_windows_python(windows: Machine, library: Path) -> None:
    names = [f"tests/{name}" for name in SYSTEM]
    assert run(windows, library, *names) >= AT_LEAST_SYSTEM, "far fewer tests ran than there are"


@pytest.mark.timeout(LIMIT_S + 60)
def test_everything_that_can_run_on_a_windows_python_passes(windows: Machine, library: Path) -> None:
    assert run(windows, library, "tests") >= AT_LEAST, "far fewer tests ran than there are"
