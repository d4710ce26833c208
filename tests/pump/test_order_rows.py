"""Open orders are a mapping like any other, however many of them are packed."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.pump import lifecycle
from mt4pump.pump.lifecycle import OrderRows

ACTS = st.lists(st.tuples(st.integers(1, 6), st.one_of(st.none(), st.integers(0, 9))), max_size=40)
"""Order and its new stop loss; None: the order ends."""


@pytest.fixture(scope="module", autouse=True)
def _two_unpacked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "UNPACKED_LIMIT", 2)
        yield


@given(acts=ACTS)
def test_orders_are_what_a_dict_would_hold(acts: list[tuple[int, int | None]]) -> None:
    rows, expected = OrderRows(), dict[int, dict[str, object]]()
    for order, sl in acts:
        if sl is None:
            assert rows.pop(order, None) == expected.pop(order, None)
        else:
            rows[order] = expected[order] = {"order": order, "login": 100 + order, "sl": sl, "conv_rates": [1.0, 2.0]}
        assert rows == expected
        assert len(rows) == len(expected)
        assert [rows.known(number) for number in range(8)] == [expected.get(number) for number in range(8)]
        assert {number for number in range(8) if number in rows} == expected.keys()
        assert rows.packed() == {order: msgpack.packb(fields) for order, fields in expected.items()}


def test_rows_are_those_of_the_moment_at_which_they_were_taken() -> None:
    rows = OrderRows({"order": order, "login": 100 + order} for order in range(5))
    taken = rows.take_rows()
    rows[0] = {"order": 0, "login": 999}
    del rows[4]
    shown = {login: msgpack.unpackb(row) if isinstance(row, bytes) else row for login, row in taken}
    assert shown == {100 + order: {"order": order, "login": 100 + order} for order in range(5)}


def test_an_order_that_is_not_open_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        del OrderRows()[1]
