"""The session that the desks read from at the moment, if there is one."""

from __future__ import annotations

from collections.abc import Iterator

from mt4pump.errors import ConnectionLost
from mt4pump.manager_api.codes import ReturnCode
from mt4pump.manager_api.manager import Manager
from mt4pump.session import Link


class Reader:
    """``link`` is the current session; ``live`` tells that its START_PUMPING came and its STOP did not."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.live = False

    @property
    def manager(self) -> Manager:
        """Return the session's Manager; raises ConnectionLost when there is no session."""
        if self.link is None:
            raise ConnectionLost(
                "read", ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", "there is no session to read from"
            )
        return self.link.manager

    def table(self, name: str) -> bytes:
        """Return the whole table ``name``; raises ConnectionLost when the link was gone by the time it was read."""
        return self.manager.table(name)


def rows(array: bytes, size: int) -> Iterator[bytes]:
    """Yield the records of an array; bytes left over at its end are no record."""
    return (array[start : start + size] for start in range(0, len(array) - size + 1, size))
