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
ENDS = (
    "2_for_wrong_settings_and_lists_them",
    "3_when_it_cannot_start",
    "1_and_a_traceback_in_the_log_for_anything_else",
)
FRAMES = "a message of 20,000 frames takes Wine a minute"
OWNERS = "asks psutil whose a socket or a process is: Wine 8 does not tell, or searches the whole host for minutes"
CLOSED = (
    "closed_connections_are_not_given_to_the_next_ones_of_their_numbers",
    "many_closed_connections_are_not_given_to_those_with_their_addresses",
)
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
    "tests/demo": LIVES,
    "tests/deploy": HOST,
    "tests/samples": TOOLS,
    "tests/service/test_guide.py": HOST,
    "tests/service/test_powershell.py": HOST,
    "tests/service/test_service.py": "drives a fake NSSM, a script of Unix; test_service here drives the real one",
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
    "tests/test_bench.py": MINUTES,
    "tests/test_joins.py": MODEL,
    "tests/test_permission_matrix.py": "hundreds of encrypted connections at once; tests/security has each rule",
    "tests/test_readme.py": HOST,
    "tests/test_quick.py": HOST,
    "tests/test_repeat.py": TOOLS,
    "tests/test_layering.py": HOST,
    "tests/process/test_stop.py": LIVES,
    "tests/vendor/test_compile.py": COMPILER,
    "tests/vendor/test_decorations.py": COMPILER,
}
"""Files and folders that are not even read there, and why."""
LEFT_OUT = {
    "tests/bridge/test_library.py::TestLoad::test_missing_export_is_named": COMPILER,
    "tests/cli/test_check.py::test_a_taken_address_is_3_and_names_the_program": OWNERS,
    "tests/publisher/test_address_holder.py::test_a_listener_on_all_addresses_is_found_for_each": OWNERS,
    "tests/publisher/test_address_holder.py::test_the_program_that_listens_is_named_with_its_pid": OWNERS,
    "tests/query/test_server.py::test_an_address_that_is_taken_is_named_with_its_setting": OWNERS,
    "tests/query/test_server.py::test_a_message_of_very_many_frames_is_read_to_its_end_and_answered": FRAMES,
    **{f"tests/security/test_matrix.py::test_subscriptions_of_{words}": OWNERS for words in CLOSED},
    "tests/test_outages.py::test_after_an_outage_with_500_changes_the_synthetic_events_rebuild_the_final_state": MODEL,
    "tests/vectors/test_vectors.py::test_the_stored_file_is_what_the_script_writes": HOST,
    **{f"tests/cli/test_main.py::test_the_process_ends_with_{arguments}": LIVES for arguments in ENDS},
}
"""Single tests that cannot run there, and why; those that are not about Windows at all skip themselves."""
STEADY = {"CI": "true"}
"""Has Hypothesis try the same examples each time, without a limit to the time of each."""
PASSED = re.compile(r"^(\d+) passed", re.MULTILINE)
AT_LEAST = 2000


@pytest.mark.timeout(LIMIT_S + 60)
def test_everything_that_can_run_on_a_windows_python_passes(windows: Machine, library: Path) -> None:
    left_out = [f"--ignore={name}" for name in NOT_COLLECTED] + [f"--deselect={name}" for name in LEFT_OUT]
    options = [*AT_ONCE, "-q", "--tb=short", "-p", "no:cacheprovider", f"--timeout={HANG_S}", "--durations=25"]
    done = windows.run(
        windows.python,
        "-m",
        "pytest",
        *options,
        *left_out,
        "tests",
        cwd=ROOT,
        extra={COMPILED: windows.windows(library), **STEADY},
        limit_s=LIMIT_S,
    )
    print(done.stdout[-8000:])  # noqa: T201 - shown by pytest when the test fails
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    passed = PASSED.search(done.stdout)
    assert passed, "pytest printed no summary"
    assert int(passed[1]) >= AT_LEAST, "far fewer tests ran than there are"
