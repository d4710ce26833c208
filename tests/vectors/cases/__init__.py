"""The cases by kind: what the vectors are about."""

from __future__ import annotations

from collections.abc import Mapping

from tests.vectors.case import Case
from tests.vectors.cases import daemon, marks, messages, quotes, tables, trades

CASES: Mapping[str, list[Case]] = {
    "quote": quotes.cases(),
    "trade": trades.cases(),
    **tables.cases(),
    **marks.cases(),
    **messages.cases(),
    **daemon.cases(),
}
"""Cases by the file that they are stored in, which is named after their kind."""
