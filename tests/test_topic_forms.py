"""A name of topics means the same in the client, the commands, the files of keys, and for clients of the gateway."""

from __future__ import annotations

import pytest
from mt4pump_consumers.gateway.protocol import parse
from mt4pump_consumers.gateway.tokens import Grant, topics_of

from mt4pump.cli.arguments import TopicFilter
from mt4pump.client.topic_state import SubscriptionSet
from mt4pump.security.permissions import declared


@pytest.mark.parametrize("name", ["trade.", "trade.*"])
def test_a_kind_with_a_dot_is_all_of_that_kind_everywhere(name: str) -> None:
    client, command = SubscriptionSet([name]), TopicFilter([name])
    assert client.subscriptions() == set(command.subscriptions) == {b"trade."}
    assert client.is_wanted("trade.1001")
    assert command.wants("trade.1001")
    assert declared([name], "", "alice.toml").allowed == declared(["trade.*"], "", "alice.toml").allowed
    assert declared([name], "|", "alice.toml").allowed == declared(["trade.*"], "|", "alice.toml").allowed
    allowed = Grant("alice", topics_of([name]) or ()).allowed
    assert (allowed.covers("trade.1001"), allowed.covers("quote.EURUSD")) == (True, False)
    assert parse(f'{{"action": "subscribe", "topics": ["{name}"]}}').topics == ("trade.*",)
