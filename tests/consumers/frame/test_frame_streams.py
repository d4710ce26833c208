"""A consumer that was started without standard output and error."""

from __future__ import annotations

import sys

import pytest
from mt4pump_consumers.frame import ConsumerSettings, Shutdown, run_consumer, settings_config


class OwnSettings(ConsumerSettings):
    """Nothing of its own."""

    model_config = settings_config("own")


def test_a_consumer_without_output_finds_streams_that_take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr("mt4pump_consumers.frame.logs.configure", lambda *_: None)  # the log of these tests stays
    seen: list[bool] = []

    def main(_settings: OwnSettings, _ending: Shutdown) -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.write("\udcff ü\n")
            stream.flush()
            seen.append(stream.isatty())
        return 0

    assert run_consumer(OwnSettings, main, "For a test.", []) == 0
    with sys.stdout, sys.stderr:
        assert seen == [False, False]
