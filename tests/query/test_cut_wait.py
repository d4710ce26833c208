"""Waiting for the pump's cut: one that comes late is taken, one that cannot be made is refused at once."""

from __future__ import annotations

import msgpack

from mt4pump.pumping.state import Cut, CutRequest
from mt4pump.query.answers import Answers, Peer
from mt4pump.query.options import QueryOptions
from mt4pump.security import EVERYTHING

PEER = Peer(b"peer", "")
CUT = Cut(epoch=1, log=None, offset=0, offsets={}, ts=2, seqs={b"quote.A": 3}, rows=())


def answered(ask_cut: object, **options: float) -> dict[str, object]:
    """Return the head of the answer to a snapshot."""
    answers = Answers(
        QueryOptions(**options),  # type: ignore[arg-type]
        allowed=lambda _user: EVERYTHING,
        ask_cut=ask_cut,  # type: ignore[arg-type]
        reader=None,
        describe=dict,
        is_stopping=lambda: False,
    )
    return dict(answers.answer(msgpack.packb({"op": "snapshot"}), PEER).head)


def test_a_cut_that_comes_between_two_looks_is_no_failure() -> None:
    def ask(request: CutRequest) -> None:
        plain = request.wait

        def just_missed(timeout_s: float) -> Cut | None:  # noqa: ARG001 - it is called as `wait`
            request.wait = plain  # type: ignore[method-assign]
            request.answer(CUT)
            return None

        request.wait = just_missed  # type: ignore[method-assign]

    head = answered(ask)
    assert (head["ok"], head.get("seqs")) == (True, {"quote.A": 3})


def test_a_cut_that_cannot_be_made_is_refused_at_once() -> None:
    head = answered(lambda request: request.answer(None), cut_wait_s=60.0)
    assert (head["ok"], head["code"]) == (False, "busy")


def test_a_cut_that_never_comes_is_refused_in_time() -> None:
    head = answered(lambda _request: None, cut_wait_s=0.05)
    assert (head["ok"], head["code"]) == (False, "busy")
