"""The JSON protocol, its mistakes included."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mt4pump_consumers.gateway.protocol import (
    BAD_JSON,
    BAD_REQUEST,
    UNKNOWN_ACTION,
    ClientRequest,
    ClientRequestError,
    encode,
    error_message,
    parse,
    pips,
    quote_message,
    subscription_message,
)


def test_the_messages_of_the_design_are_exactly_these() -> None:
    body = {"symbol": "EURUSD", "bid": 1.1212, "ask": 1.12172, "digits": 5, "time": 1577916000, "high": 2.0, "seq": 1}
    data = {"symbol": "EURUSD", "bid": 1.1212, "ask": 1.12172, "spread": 5.2, "time": 1577916000, "digits": 5}
    assert quote_message(body) == {"type": "quote", "data": data}
    reply = {"type": "subscription", "status": "success", "symbols": ["EURUSD"]}
    assert subscription_message(["EURUSD"], [], None) == reply
    assert subscription_message(["EURUSD"], ["trade.*"], None) == {**reply, "topics": ["trade.*"]}
    assert parse('{"action": "subscribe", "symbols": ["EURUSD"]}') == ClientRequest("subscribe", symbols=("EURUSD",))


def test_a_topic_that_can_match_nothing_is_warned_about_in_the_reply() -> None:
    request = parse('{"action": "subscribe", "topics": ["quote", "trade."]}')
    assert request.topics == ("quote", "trade.*")
    reply = subscription_message([], request.topics, None, request.topics)
    assert reply["warnings"] == ["topic 'quote' can match nothing that a daemon publishes; did you mean 'quote.*'?"]
    assert "warnings" not in subscription_message([], ["trade.*"], None, ["trade.*"])


@pytest.mark.parametrize(
    ("bid", "ask", "digits", "spread"),
    [(1.1, 1.10012, 5, 1.2), (150.0, 150.025, 3, 2.5), (1.1, 1.1003, 4, 3.0), (18000.0, 18001.5, 1, 15.0)],
)
def test_a_pip_is_ten_points_where_prices_have_three_or_five_digits(
    bid: float, ask: float, digits: int, spread: float
) -> None:
    assert pips(bid, ask, digits) == spread


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", BAD_JSON),
        (b"{}", BAD_JSON),
        ("[" * 100_000, BAD_JSON),
        ("[]", BAD_JSON),
        ("{}", UNKNOWN_ACTION),
        ('{"action": ["subscribe"]}', UNKNOWN_ACTION),
        ('{"action": "drop"}', UNKNOWN_ACTION),
        ('{"action": "subscribe"}', BAD_REQUEST),
        ('{"action": "subscribe", "symbols": "EURUSD"}', BAD_REQUEST),
        ('{"action": "subscribe", "symbols": [1]}', BAD_REQUEST),
        ('{"action": "subscribe", "symbols": [""]}', BAD_REQUEST),
        ('{"action": "subscribe", "symbols": ["*****"]}', BAD_REQUEST),
        ('{"action": "resume", "topics": ["trade.*"], "offset": true}', BAD_REQUEST),
        (f'{{"action": "resume", "topics": ["trade.*"], "offset": {2**63}}}', BAD_REQUEST),
        ('{"action": "resume", "topics": [], "offset": 1}', BAD_REQUEST),
        ('{"action": "auth", "token": 5}', BAD_REQUEST),
        ('{"action": "auth", "token": ""}', BAD_REQUEST),
        ('{"action": "batch", "window_s": NaN}', BAD_REQUEST),
        ('{"action": "batch", "window_s": 99}', BAD_REQUEST),
        ('{"action": "status", "id": {}}', BAD_REQUEST),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_code(text: str | bytes, code: str) -> None:
    with pytest.raises(ClientRequestError) as caught:
        parse(text)
    assert caught.value.code == code
    assert error_message(caught.value)["type"] == "error"


@given(st.text() | st.binary() | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_no_text_makes_anything_but_a_request_or_a_refusal(text: str | bytes) -> None:
    with suppress(ClientRequestError):
        assert isinstance(parse(text), ClientRequest)


def test_the_id_comes_back_and_a_token_is_never_shown() -> None:
    with pytest.raises(ClientRequestError) as caught:
        parse('{"action": "subscribe", "id": 7}')
    assert error_message(caught.value)["id"] == 7
    assert "canary" not in repr(parse('{"action": "auth", "token": "canary"}'))


def test_a_refusal_says_in_words_what_is_wrong() -> None:
    with pytest.raises(ClientRequestError) as caught:
        parse("{")
    assert error_message(caught.value) == {"type": "error", "message": "message is not JSON", "code": BAD_JSON}


def test_numbers_that_json_has_not_become_null_and_all_others_stay() -> None:
    text = encode({"a": math.nan, "b": [math.inf, 1.5], "c": b"x", "d": "\ud800", "e": 7})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": "x", "d": "?", "e": 7}
