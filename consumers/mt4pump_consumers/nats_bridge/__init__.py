"""The NATS bridge: the stream on NATS subjects, what is durable in a JetStream stream, each event once and in order.

::

    mt4pump ──PUB──► Reader ─┬─ quotes, heartbeats ────────────────► core NATS
       │                     └─ durable events ─► PublishQueue ─► JetStreamWriter ─► JetStream
       └──query────────────► JournalPages (what is missing) ─┘

Where to go on is read from the stream itself: its last message names journal and offset. So there is nothing to keep
beside it, and the bridge may be killed, moved and started again. Each message is published on the condition that
the one before it is the stream's last (``Nats-Expected-Last-Sequence``): whatever was in doubt when a connection broke,
nothing is stored twice or out of order, however long the outage; ``Nats-Msg-Id`` guards the same within the stream's
window, and identifies the event for readers. What the live stream skips is read from the daemon's journal.
"""
