"""What all tests share: the fake vendor library, and CI's rule that a skipped test is a failed run."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.quick import is_slow

pytest_plugins = ["tests.vendor.fixtures"]
REQUIRE_ALL = "REQUIRE_ALL_TESTS"

settings.register_profile("default", deadline=None)  # no test fails for a slow machine
settings.load_profile("default")
settings.register_profile(
    "gate", derandomize=True, deadline=None
)  # it checks a change: what only chance finds is found elsewhere
settings.register_profile("quick", max_examples=20, deadline=None)  # the whole command tries a hundred
if os.environ.get(REQUIRE_ALL):
    settings.load_profile("gate")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--quick``."""
    parser.addoption("--quick", action="store_true", help="few examples; no files that tests/quick.py lists")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out slow files where ``--quick`` asks for it."""
    return True if config.getoption("--quick") and is_slow(collection_path) else None


def pytest_configure(config: pytest.Config) -> None:
    """Handle Ctrl-C, which a shell's background job ignores, as would every program that a test starts from there."""
    if config.getoption("--quick"):
        settings.load_profile("quick")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001 - the hook's own argument
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is required, turn a skip into a failure that says what was skipped and why."""
    report = yield
    if report.skipped and os.environ.get(REQUIRE_ALL) and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but {REQUIRE_ALL} is set: {reason}"
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where everything is required, a module that skipped itself while it was collected fails the run, too."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get(REQUIRE_ALL) and reporter and reporter.stats.get("skipped") and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
