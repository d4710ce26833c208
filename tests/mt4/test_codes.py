"""Our enumerations against the header's numbers."""

from __future__ import annotations

from enum import IntEnum

import pytest

from mt4pump.mt4.codes import (
    ACTION_NAMES,
    CLOSED_STATES,
    CONNECTION_LOSSES,
    LOGIN_REFUSALS,
    OBSERVED_MEANINGS,
    PENDING_COMMANDS,
    ActivationType,
    MarginLevelType,
    PumpCode,
    PumpFlag,
    RequestStatus,
    ReturnCode,
    SymbolDirection,
    TradeCommand,
    TradeReason,
    TradeState,
    Transaction,
    return_code_name,
)
from mt4pump.mt4.layout import CALLBACK_RECORD
from mt4pump.wire import KINDS
from tests.reference import api_codes

WHOLE = (
    ("pumping_code", PumpCode, "PUMP_"),
    ("transaction_type", Transaction, "TRANS_"),
    ("return_code", ReturnCode, ""),
    ("trade_command", TradeCommand, ""),
    ("trade_state", TradeState, ""),
    ("trade_reason", TradeReason, ""),
    ("activation", ActivationType, ""),
    ("margin_level_type", MarginLevelType, ""),
    ("request_status", RequestStatus, ""),
    ("symbol_direction", SymbolDirection, ""),
)


@pytest.mark.parametrize(("name", "ours", "prefix"), WHOLE, ids=[row[0] for row in WHOLE])
def test_names_and_numbers_are_the_headers_and_none_is_missing(name: str, ours: type[IntEnum], prefix: str) -> None:
    assert {prefix + member.name: member.value for member in ours} == api_codes(name)


def test_flags_are_the_headers_but_for_the_reserved_one() -> None:
    headers = api_codes("pumping_flags (bit mask)")
    del headers["CLIENT_FLAGS_RESERVED"]
    assert {f"CLIENT_FLAGS_{flag.name}": flag.value for flag in PumpFlag} == headers


def test_all_seventeen_pump_codes_are_there_and_lead_to_a_topic() -> None:
    assert [int(code) for code in PumpCode] == list(range(17))
    assert sorted(code for kind in KINDS.values() for code in kind.codes) == list(PumpCode)
    assert set(CALLBACK_RECORD) <= set(PumpCode)


def test_every_transaction_has_a_word_on_the_wire() -> None:
    assert [ACTION_NAMES[action] for action in Transaction] == ["add", "delete", "update", "change_group"]


@pytest.mark.parametrize(
    ("code", "name"), [(0, "RET_OK"), (65, "RET_BAD_ACCOUNT_INFO"), (151, "unknown"), (255, "unknown"), (-1, "unknown")]
)
def test_a_return_code_has_its_constants_name_or_none(code: int, name: str) -> None:
    assert return_code_name(code) == name


def test_refusals_and_losses_are_distinguished() -> None:
    assert ReturnCode.RET_BAD_ACCOUNT_INFO in LOGIN_REFUSALS
    assert {ReturnCode.RET_NO_CONNECT, 255} == CONNECTION_LOSSES
    assert not LOGIN_REFUSALS & CONNECTION_LOSSES
    assert not (LOGIN_REFUSALS | CONNECTION_LOSSES) & {ReturnCode.RET_OK, ReturnCode.RET_OK_NONE}
    assert all(OBSERVED_MEANINGS.values())


def test_pending_and_closed_are_the_ones_meant() -> None:
    assert {2, 3, 4, 5} == PENDING_COMMANDS
    assert {3, 4, 5} == CLOSED_STATES
