"""Cuts of the pump: one that comes late is taken, one that cannot be made is refused at once, the next one waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from mt4pump.pump.snapshot import SnapshotRequest, StateSnapshot
from mt4pump.query.handlers import CUT_GAP_S, RequestHandler
from mt4pump.query.limits import QueryOptions
from mt4pump.query.snapshots import Peer
from mt4pump.security import EVERYTHING
from tests.query.stand import accounts
from tests.query.test_pace import Clock

PEER = Peer(b"peer", "")
CUT = StateSnapshot(epoch=1, log=None, offset=0, offsets={}, ts=2, seqs={b"quote.A": 3}, rows=())


def answering(
    ask_cut: Callable[[SnapshotRequest], object], clock: Clock | None = None, **options: float
) -> RequestHandler:
    """Return what answers requests; with a ``clock`` only that moves its time."""
    time = {"now_s": lambda: clock.now_s, "sleep": clock.sleep} if clock else {}
    return RequestHandler(
        QueryOptions(**options),  # type: ignore[arg-type]
        allowed=lambda _user: EVERYTHING,
        ask_cut=ask_cut,  # type: ignore[arg-type]
        reader=None,
        describe=dict,
        is_stopping=lambda: False,
        **time,  # type: ignore[arg-type]
    )


def snapshot(answers: RequestHandler, **request: object) -> dict[str, Any]:
    """Return the head of the answer to a snapshot."""
    return dict(answers.answer(msgpack.packb({"op": "snapshot", **request}), PEER).head)


def test_a_cut_that_comes_between_two_looks_is_no_failure() -> None:
    def ask(request: SnapshotRequest) -> None:
        plain = request.wait

        def just_missed(timeout_s: float) -> StateSnapshot | None:  # noqa: ARG001 - it is called as `wait`
            request.wait = plain  # type: ignore[method-assign]
            request.answer(CUT)
            return None

        request.wait = just_missed  # type: ignore[method-assign]

    head = snapshot(answering(ask))
    assert (head["ok"], head.get("seqs")) == (True, {"quote.A": 3})


def test_a_cut_that_cannot_be_made_is_refused_at_once() -> None:
    head = snapshot(answering(lambda request: request.answer(None), cut_wait_s=60.0))
    assert (head["ok"], head["code"]) == (False, "busy")


def test_a_cut_that_never_comes_is_refused_in_time() -> None:
    head = snapshot(answering(lambda _request: None, cut_wait_s=0.05))
    assert (head["ok"], head["code"]) == (False, "busy")


@pytest.mark.parametrize(("cut_s", "gap_s"), [(0.01, 0.05), (1.0, CUT_GAP_S)])
def test_between_two_cuts_the_pump_has_five_times_their_time_for_its_own_work_up_to_a_bound(
    cut_s: float, gap_s: float
) -> None:
    clock, gaps_s, ended_s = Clock(), [], [0.0]

    def ask(request: SnapshotRequest) -> None:
        gaps_s.append(clock.now_s - ended_s[-1])
        clock.now_s += cut_s
        ended_s.append(clock.now_s)
        request.answer(CUT)

    answers = answering(ask, clock)
    assert all(snapshot(answers)["ok"] for _ in range(3))
    assert gaps_s == pytest.approx([0.0, gap_s, gap_s])


def test_a_cut_that_was_read_to_its_end_makes_room_for_the_next_at_once() -> None:
    answers = answering(lambda request: request.answer(accounts(3)), Clock(), cuts_held=1)
    for _ in range(2):
        head = snapshot(answers, limit=2)
        assert head["cursor"], head
        while head["cursor"]:
            head = snapshot(answers, cursor=head["cursor"])
            assert head["ok"], head
