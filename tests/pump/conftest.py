"""A context, and the works of the pump thread, ended with the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from tests.bus import context
from tests.pump.works import Works


@pytest.fixture(name="own")
def _own() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with context() as made:
        yield made


@pytest.fixture(name="works")
def _works(own: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Works]:
    made = Works(own)
    yield made
    made.finish()
    assert made.pump.crash is None
    assert made.publisher._socket.closed
