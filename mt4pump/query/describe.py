"""What `describe` answers: who publishes here, what, and how far it is; read by the query thread."""

from __future__ import annotations

from collections.abc import Mapping

from mt4pump import __version__
from mt4pump.journal import Journal
from mt4pump.protocol import ContractOptions, common_fields, kinds_for
from mt4pump.pump.heartbeat import ServerClock
from mt4pump.settings import Settings
from mt4pump.wire import PROTOCOL, Body


class Description:
    """Makes the body of a description: `Description(...)()`. What never changes is made once."""

    def __init__(
        self,
        settings: Settings,
        *,
        epoch: int,
        pub_endpoint: str,
        journal: Journal | None,
        server_clock: ServerClock,
        limits: Mapping[str, int | float],
    ) -> None:
        self._journal = journal
        self._server_clock = server_clock
        options = ContractOptions(
            user_fields=frozenset(settings.user_fields),
            mail_fields=frozenset(settings.mail_fields),
            plugin_parameters=settings.plugin_parameters,
            durable=frozenset(settings.durable) if settings.journal else frozenset(),
            topic_suffix=settings.topic_suffix,
        )
        self._constant: Body = {
            "protocol": PROTOCOL,
            "version": __version__,
            "epoch": epoch,
            "topic_suffix": settings.topic_suffix,
            "server_code": settings.server_code,
            "encoding": settings.encoding,
            "heartbeat_interval_s": settings.heartbeat_interval_s,
            "pub_endpoint": pub_endpoint,
            "retention": {"max_age_s": settings.journal_max_age_s, "max_bytes": settings.journal_max_bytes},
            "limits": dict(limits),
            "kinds": kinds_for(options),
            "common": common_fields(),
        }

    def __call__(self) -> Body:
        """Return it as of now."""
        journal = self._journal
        return {
            **self._constant,
            "log": journal.log_id if journal else None,
            "offset": journal.last_offset if journal else 0,
            "offsets": dict(journal.last_offsets) if journal else {},
            "durable": journal is not None and journal.durable,
            "server_utc_offset_s": self._server_clock.offset_s,
        }
