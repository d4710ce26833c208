"""``python -m tests.bench.nats [--rounds N]``: events per second into JetStream, by the bridge and by nats-py alone.

A daemon whose journal is full, the bridge and nats-server are each a process of their own; the bridge stores the whole
journal, each event on the condition that the one before is the stream's last. The peer publishes the same messages,
ready-made, with nats-py's ``publish_async``, as many in flight, into a stream of its own. Rounds alternate; medians
count. The process of the daemon is that of the bench: it must only sleep while the bridge works.

CPU of the bridge in µs per event (py-spy and ``schedstat``, CPython 3.11, two cores): 30, in two threads that share
one GIL. Main thread 22: nats-py's ``publish`` 6.5 and its reading of acknowledgements 6; our part of acknowledgements
3, of message and headers 1.5, of the check of sizes 1, of the number in flight and the loop 4. Journal thread 8.5:
unpacking of the body 3, ``recv`` of the frames 2.5, events 3. Beside it nats-server takes 10 and the daemon 4. nats-py
alone takes 29 to 31 with the making of its messages, which is not timed, so some 22 without (an estimate), and reads
no journal: with a main thread that costs as much, the limit of the bridge is 22/30 of it, about 0.7.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgpack
import nats
from mt4pump_consumers.nats_bridge.message import Message, stored_message
from mt4pump_consumers.nats_bridge.settings import NatsSettings

from mt4pump.client import Event
from mt4pump.client.event import TopicName
from tests.bench.journal import filled_daemon, stored
from tests.consumers.nats_bridge.nats_run import SERVER, NatsPrograms, nats_programs

EVENTS = 100_000
IN_FLIGHT: int = NatsSettings.model_fields["publish_limit"].default
LIMIT_S = 120.0
READ = re.compile(r"(\d+) events were read from the journal in ([\d.]+) s")


def bridged(programs: NatsPrograms) -> float:
    """Return events per second of the bridge, from its own log line."""
    with filled_daemon(EVENTS) as (daemon, _):
        programs.endpoint, programs.query_endpoint = daemon.endpoint, str(daemon.query_endpoint)
        programs.bridge = programs.new_bridge("--publish-limit", str(IN_FLIGHT))
        programs.bridge.start()
        ((count, seconds),) = programs.until(lambda: READ.findall(programs.bridge.text), "the whole journal", LIMIT_S)
        programs.bridge.stop()
    return int(count) / float(seconds)


def message(offset: int) -> Message:
    """Return what the bridge publishes for an event of the journal."""
    row = stored(offset, offset % 250, time.time_ns())
    event = Event(TopicName(row.topic.decode()), msgpack.unpackb(row.body), (row.topic, row.body))
    return stored_message(event, "0123456789abcdef", "bare")


async def bare(url: str) -> float:
    """Return events per second of nats-py alone."""
    client = await nats.connect(url)
    stream = client.jetstream(publish_async_max_pending=IN_FLIGHT)
    await stream.add_stream(name="BARE", subjects=["bare.>"])
    messages = [message(offset) for offset in range(1, EVENTS + 1)]
    began_s = time.perf_counter()
    for each in messages:
        await stream.publish_async(each.subject, each.payload, headers=each.headers)
    await stream.publish_async_completed()
    seconds = time.perf_counter() - began_s
    await client.close()
    return EVENTS / seconds


def measured() -> tuple[float, float]:
    """Return events per second of the bridge and of nats-py, with a server of this round's own."""
    with tempfile.TemporaryDirectory() as folder, nats_programs(Path(folder)) as programs:
        programs.nats.start()
        programs.until(lambda: "Server is ready" in programs.nats.text, "nats-server")
        return bridged(programs), asyncio.run(bare(programs.url))


def main() -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nats", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    if SERVER is None:
        parser.error("nats-server is not installed: apt-get install nats-server")
    found = [measured() for _ in range(parser.parse_args().rounds)]
    for name, rates in zip(("mt4pump-nats", "nats-py alone"), zip(*found, strict=True), strict=True):
        sys.stdout.write(f"{name}: {statistics.median(rates):,.0f} events per second\n")
    ratio = statistics.median(mine / other for mine, other in found)
    sys.stdout.write(f"bridge/bare {ratio:.2f}, {IN_FLIGHT} in flight\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
