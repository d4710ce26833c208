"""Who is connected to the simulated server, and which session pumps.

``_door`` is held for look-ups and assignments only, never while a callback runs, so that a session can be closed from
any thread, also from inside its own callback.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic
from weakref import WeakSet

from mt4pump.errors import ConnectionLost
from mt4pump.manager_api.codes import ReturnCode
from mt4pump.manager_api.manager import Notify
from mt4pump.simulator.delivery import Delivery
from mt4pump.simulator.session import SimulatorManager


class Reception:
    """Lets sessions in and out; one of them pumps at most."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._door = Lock()
        self._connected: WeakSet[SimulatorManager] = WeakSet()
        self._away_until_s = self._silent_until_s = 0.0
        self.pumping: SimulatorManager | None = None

    def admit(self, session: SimulatorManager, *, running: bool) -> None:
        """Let a session connect; raises ConnectionLost while the server is away or not ``running``."""
        away_s = self._away_until_s - monotonic()
        reason = f"the simulated server is away for another {away_s:.1f} s (fault drop)" if away_s > 0 else ""
        if not running:
            reason = "the simulator is not running: it was not started, or stopped"
        if reason:
            raise ConnectionLost("Connect", ReturnCode.RET_NO_CONNECT, "RET_NO_CONNECT", reason)
        with self._door:
            self._connected.add(session)

    def attach(self, session: SimulatorManager, flags: int, notify: Notify) -> None:
        """Make ``session`` the one that pumps; another one that does is lost."""
        other = self.pumping
        if other and other is not session:
            self.lose(other, "another session began to pump")
        with self._door:
            self.pumping = session
            self._delivery.open(flags, notify)

    def detach(self, session: SimulatorManager) -> Notify | None:
        """Let go of ``session``; return its ``notify`` if it pumped and would hear STOP."""
        with self._door:
            self._connected.discard(session)
            if self.pumping is not session:
                return None
            self.pumping = None
            return self._delivery.close()

    def lose(self, session: SimulatorManager, reason: str) -> None:
        """End a session from the server's side, told by STOP on this thread if it pumps."""
        session.lost = reason
        notify = self.detach(session)
        if notify:
            self._delivery.tell_stop(notify)

    def lose_all(self, reason: str) -> None:
        """End every session."""
        with self._door:
            sessions = list(self._connected)
        for session in sessions:
            self.lose(session, reason)

    def cut(self, away_s: float) -> None:
        """Cut the link: every session is lost, and none is let in for ``away_s`` seconds."""
        self._away_until_s = monotonic() + away_s
        self.lose_all("the simulated link was cut (fault drop)")

    def fall_silent(self, silent_s: float) -> None:
        """Cut the link, let sessions in and answer no login for ``silent_s`` seconds."""
        self._silent_until_s = monotonic() + silent_s
        self.lose_all("the simulated server fell silent (fault silent)")

    def silent_s(self) -> float:
        """Return for how many seconds more no login is answered."""
        return max(0.0, self._silent_until_s - monotonic())
