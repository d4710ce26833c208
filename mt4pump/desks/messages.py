"""News and mail: headers as told, bodies where the API gives one."""

from __future__ import annotations

from collections import OrderedDict

from mt4pump.desks.reader import Reader
from mt4pump.errors import ManagerError
from mt4pump.manager_api.decode import Decoder, Fields, ansi_text, utf16_text
from mt4pump.manager_api.layout import MAIL_BOX, NEWS_TOPIC, NEWS_TOPIC_NEW
from mt4pump.manager_api.record import Record
from mt4pump.pumping.emitter import Emitter
from mt4pump.tables import ADD, UPDATE
from mt4pump.wire import MAIL, NEWS

AWAITED_LIMIT = 1_000
"""News whose body was asked for and did not come yet; the oldest is given up beyond this."""
TOLD_LIMIT = 10_000
"""News keys remembered, so that a header that the server sends again after a reconnect is no news."""


class MessageDesk:
    """``repeats`` counts news headers that were told before; ``bodies_given_up`` bodies that never came."""

    def __init__(self, emitter: Emitter, reader: Reader, encoding: str) -> None:
        self.repeats = 0
        self.bodies_given_up = 0
        self._emitter = emitter
        self._reader = reader
        self._encoding = encoding
        self._news = Decoder(NEWS_TOPIC, encoding)
        self._news_new = Decoder(NEWS_TOPIC_NEW, encoding)
        self._mail = Decoder(MAIL_BOX, encoding)
        self._awaited: OrderedDict[int, Fields] = OrderedDict()
        self._told: OrderedDict[int, int] = OrderedDict()
        self._last_mail = 0

    def news(self, data: bytes, ts: int) -> None:
        """Tell a news header; without one, those of the API's list that were not told yet."""
        if data:
            self._tell_news(*_split(data, NEWS_TOPIC), ts)
            return
        array = self._reader.table("news")
        for start in range(0, len(array), NEWS_TOPIC.size):
            self._tell_news(array[start : start + NEWS_TOPIC.size], b"", ts)

    def news_new(self, data: bytes, ts: int) -> None:
        """Tell a news in the wide form; without data there is nothing to read, as the API has no list of these."""
        if not data:
            return
        record, body = _split(data, NEWS_TOPIC_NEW)
        fields = self._news_new(record)
        if self._is_repeat(fields["key"], record):
            return
        fields["languages_list"] = [language for language in fields["languages_list"] if language]
        text = utf16_text(body) if body else None
        self._emitter.emit(NEWS, fields["key"], {**fields, "body": text, "action": ADD}, ts)

    def bodies(self, ts: int) -> None:
        """Tell the bodies that arrived: the event does not say whose, so each awaited one is looked for."""
        manager = self._reader.manager
        for key in list(self._awaited):
            body = manager.news_body(key)
            if body is not None:
                fields = self._awaited.pop(key)
                text = ansi_text(body, self._encoding)
                self._emitter.emit(NEWS, key, {**fields, "body": text, "action": UPDATE}, ts)

    def mail(self, data: bytes, ts: int) -> None:
        """Tell a mail. Its body is behind the record, or in the file that the API stored its last mail in.

        A bell without a record may ring more than once for the same mail: it is told once.
        """
        record, body = _split(data, MAIL_BOX)
        fault: ManagerError | None = None
        if not body:
            stored = b""
            try:
                stored = self._reader.manager.last_mail() or b""
            except ManagerError as error:
                fault = error  # costs the body, not the mail
            head, behind = _split(stored, MAIL_BOX)
            if len(head) == MAIL_BOX.size and (not record or _same_mail(self._mail(head), self._mail(record))):
                record, body = head, behind
        if record and (data or self._last_mail != hash(record)):
            self._last_mail = hash(record)
            fields = self._mail(record)
            text = ansi_text(body, self._encoding) if body else None
            self._emitter.emit(MAIL, fields["to"], {**fields, "body": text, "action": ADD}, ts)
        if fault is not None:
            raise fault

    def _tell_news(self, record: bytes, body: bytes, ts: int) -> None:
        fields = self._news(record)
        key = fields["key"]
        if self._is_repeat(key, record):
            return
        text = ansi_text(body, self._encoding) if body else None
        self._emitter.emit(NEWS, key, {**fields, "body": text, "action": ADD}, ts)
        if text is None:
            self._awaited[key] = fields
            if len(self._awaited) > AWAITED_LIMIT:
                self._awaited.popitem(last=False)
                self.bodies_given_up += 1
            self._reader.manager.request_news_body(key)

    def _is_repeat(self, key: int, record: bytes) -> bool:
        """Return whether this very header was told before, and remember it."""
        mark = hash(record)
        if self._told.get(key) == mark:
            self.repeats += 1
            return True
        self._told[key] = mark
        self._told.move_to_end(key)
        if len(self._told) > TOLD_LIMIT:
            self._told.popitem(last=False)
        return False


def _split(data: bytes, record: Record) -> tuple[bytes, bytes]:
    """Return the record and the body behind it."""
    return data[: record.size], data[record.size :]


def _same_mail(one: Fields, other: Fields) -> bool:
    return all(one[name] == other[name] for name in ("time", "sender", "to", "subject"))
