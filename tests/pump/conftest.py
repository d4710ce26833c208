"""A context, and a pump on its thread, ended with the test.

Private access: the socket, because nothing else shows that it was closed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from tests.bus import context
from tests.pump.running import RunningPump


@pytest.fixture(name="own")
def _own() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with context() as made:
        yield made


@pytest.fixture(name="running")
def _running(own: zmq.Context[zmq.Socket[bytes]]) -> Iterator[RunningPump]:
    made = RunningPump(own)
    yield made
    made.finish()
    assert made.pump.crash is None
    assert made.publisher._socket.closed  # noqa: SLF001
