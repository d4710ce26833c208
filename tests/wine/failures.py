"""A plugin of pytest: prints each failure as it happens, so that a run that is ended early names what failed."""

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print the test's name and what it raised."""
    if report.failed:
        print(f"\n{report.nodeid}: failed ({report.when})\n{report.longreprtext}", flush=True)  # noqa: T201
