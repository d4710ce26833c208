"""Executions: what a trade event says, and how it is passed on."""

from __future__ import annotations

import json
import math

import pytest
from mt4pump_consumers.monitor.execution import execution_of

from tests.consumers.monitor.monitor_run import execution, trade


@pytest.mark.parametrize(("change", "price"), [("opened", "1.10000"), ("modified", "1.10000"), ("closed", "1.20000")])
def test_the_price_of_a_close_is_the_closing_one(change: str, price: str) -> None:
    assert execution(change=change, open_price=1.1, close_price=1.2).price_text() == price


def test_a_deletion_that_comes_with_login_0_is_of_the_account_in_its_topic() -> None:
    event = trade(login=1001)
    event.body["login"] = 0
    assert execution_of(event).login == 1001


def test_as_plain_data_only_what_json_does_not_know_is_none() -> None:
    plain = execution(profit=math.nan, storage=-math.inf, sl=1.05).as_dict()
    assert (plain["profit"], plain["storage"], plain["sl"]) == (None, None, 1.05)
    json.dumps(plain, allow_nan=False)
