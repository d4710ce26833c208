"""Handles news and mail: publishes headers as they come, and bodies where the API gives one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import msgpack

from mt4pump.errors import ConnectionLost, ManagerError
from mt4pump.mt4.codes import ReturnCode
from mt4pump.mt4.layout import MAIL_BOX, MAIL_PERSONAL, NEWS_TOPIC, NEWS_TOPIC_NEW
from mt4pump.mt4.record import Decoder, Fields, Record, ansi_text, utf16_text
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.session import CurrentSession, ManagerSession
from mt4pump.pump.table_diff import ADD, UPDATE, fingerprint
from mt4pump.wire import MAIL, NEWS

AWAITED_LIMIT = 1_000
"""News whose body was requested and did not come yet; beyond it the oldest is dropped and counted."""
KNOWN_NEWS_LIMIT = 10_000
"""Keys of published news that are kept, so that a header that the server sends again is not published again."""

# The fields that identify a message. The others may change: the pointer to the body, its length, the flag "read".
NEWS_IDENTITY = ("time", "topic", "category", "keywords")
NEWS_NEW_IDENTITY = ("datetime", "language", "subject", "category")
MAIL_IDENTITY = ("time", "sender", "to", "subject")


@dataclass(slots=True)
class KnownNews:
    """A published message: its identity, and whether it was published with its body."""

    identity: bytes
    with_body: bool


class NewsMailHandler:
    """Publishes news and mail.

    ``mail_fields`` are the personal fields of a mail that are published; sender, addressee and time always are.
    """

    def __init__(
        self, writer: EventWriter, current: CurrentSession, encoding: str, mail_fields: Collection[str] = ()
    ) -> None:
        self._writer = writer
        self._current = current
        self._encoding = encoding
        self._news = Decoder(NEWS_TOPIC, encoding)
        self._news_new = Decoder(NEWS_TOPIC_NEW, encoding)
        self._mail = Decoder(MAIL_BOX, encoding, MAIL_PERSONAL)  # all fields: its identity needs the subject
        self._mail_unnamed = MAIL_PERSONAL.difference(mail_fields)
        # With the session that was asked for the body; None: it refused.
        self._awaited: OrderedDict[int, tuple[Fields, ManagerSession | None]] = OrderedDict()
        self._known: OrderedDict[tuple[tuple[str, ...], int], KnownNews] = OrderedDict()  # the two forms may share keys
        self._last_mail: KnownNews | None = None

    def handle_news(self, data: bytes, ts: int) -> None:
        """Publish a news header; without data, those of the API's list that were not published yet."""
        if data:
            self._publish_news(*_split(data, NEWS_TOPIC), ts)
            return
        array = bytes(self._current.manager.table("news"))
        for start in range(0, len(array), NEWS_TOPIC.size):
            self._publish_news(array[start : start + NEWS_TOPIC.size], b"", ts)

    def handle_news_new(self, data: bytes, ts: int) -> None:
        """Publish a news in the wide form; without data nothing, because the API has no list of these."""
        if not data:
            return
        record, body = _split(data, NEWS_TOPIC_NEW)
        fields = self._news_new(record)
        fields["languages_list"] = [language for language in fields["languages_list"] if language]
        self._publish_header(fields, utf16_text(body) if body else None, NEWS_NEW_IDENTITY, ts)

    def request_bodies_again(self) -> None:
        """Request from a new session the bodies that an earlier session did not give.

        Raises the last refusal of the API: a body that cannot be requested is dropped.
        """
        manager, session = self._current.manager, self._current.session
        refusal: ManagerError | None = None
        for key, (fields, asked) in list(self._awaited.items()):
            if asked is session:
                continue  # its header came before START
            try:
                manager.request_news_body(key)
            except ConnectionLost:
                raise
            except ManagerError as error:
                refusal = error
                self._drop_awaited(key)
            else:
                self._awaited[key] = fields, session
        if refusal is not None:
            raise refusal

    def handle_news_body(self, ts: int) -> None:
        """Publish the bodies that arrived: the doorbell does not name the news, so each awaited body is read."""
        manager = self._current.manager
        for key in list(self._awaited):
            body = manager.news_body(key)
            if body is not None:
                fields, _ = self._awaited.pop(key)
                if known := self._known.get((NEWS_IDENTITY, key)):
                    known.with_body = True
                text = ansi_text(body, self._encoding)
                self._writer.write(NEWS, key, {**fields, "body": text, "action": UPDATE}, ts)

    def handle_mail(self, data: bytes, ts: int) -> None:
        """Publish a mail. Its body is behind the record, or in the file in which the API stored its last mail.

        A doorbell without a record may come twice for one mail, or for a mail that came as a record: the mail is
        published once, and again if its body came later. Raises ManagerError when the mail of a doorbell is unreadable.
        """
        record, body = _split(data, MAIL_BOX)
        fault: ManagerError | None = None
        if not body and not (record and "body" in self._mail_unnamed):
            stored = b""
            try:
                stored = self._current.manager.last_mail() or b""
            except ManagerError as error:
                fault = error  # costs the body, not the mail
            head, behind = _split(stored, MAIL_BOX)
            if len(head) == MAIL_BOX.size and (not record or self._is_same_mail(head, record)):
                record, body = head, behind
            elif not record and fault is None:
                fault = _unreadable_mail(len(stored))
        if record:
            self._publish_mail(self._mail(record), body, ts, by_doorbell=not data)
        if fault is not None:
            raise fault

    def _publish_mail(self, fields: Fields, body: bytes, ts: int, *, by_doorbell: bool) -> None:
        identity, last = _identity(fields, MAIL_IDENTITY), self._last_mail
        if "body" in self._mail_unnamed:
            body = b""
        if by_doorbell and last and last.identity == identity and (last.with_body or not body):
            return
        self._last_mail = KnownNews(identity, with_body=bool(body))
        text = ansi_text(body, self._encoding) if body else None
        event = {**fields, "body": text, "action": ADD}
        for name in self._mail_unnamed:
            del event[name]
        self._writer.write(MAIL, fields["to"], event, ts)

    def _is_same_mail(self, one: bytes, other: bytes) -> bool:
        return _identity(self._mail(one), MAIL_IDENTITY) == _identity(self._mail(other), MAIL_IDENTITY)

    def _publish_news(self, record: bytes, body: bytes, ts: int) -> None:
        fields = self._news(record)
        key, text = fields["key"], ansi_text(body, self._encoding) if body else None
        is_new = self._publish_header(fields, text, NEWS_IDENTITY, ts)
        if text is not None:
            self._awaited.pop(key, None)
        elif is_new:
            self._awaited[key] = fields, None
            if len(self._awaited) > AWAITED_LIMIT:
                self._drop_awaited(next(iter(self._awaited)))
            self._current.manager.request_news_body(key)
            self._awaited[key] = fields, self._current.session

    def _drop_awaited(self, key: int) -> None:
        del self._awaited[key]
        self._writer.skipped["news_bodies_given_up"] += 1

    def _publish_header(self, fields: Fields, text: str | None, identified_by: tuple[str, ...], ts: int) -> bool:
        """Publish a header and return whether it is new; a known one is published again only with a missing body."""
        key = fields["key"]
        identity, known = _identity(fields, identified_by), self._known.get((identified_by, key))
        is_new = known is None or known.identity != identity
        if known is not None and not is_new and (known.with_body or text is None):
            self._writer.skipped["news_repeats"] += 1
            return False
        self._known[identified_by, key] = KnownNews(identity, with_body=text is not None)
        self._known.move_to_end((identified_by, key))
        if len(self._known) > KNOWN_NEWS_LIMIT:
            self._known.popitem(last=False)
        self._writer.write(NEWS, key, {**fields, "body": text, "action": ADD if is_new else UPDATE}, ts)
        return is_new


def _split(data: bytes, record: Record) -> tuple[bytes, bytes]:
    """Return the record and the body behind it."""
    return data[: record.size], data[record.size :]


def _identity(fields: Fields, names: tuple[str, ...]) -> bytes:
    return fingerprint(msgpack.packb([fields[name] for name in names]))


def _unreadable_mail(stored_bytes: int) -> ManagerError:
    """Return the error for a doorbell whose mail cannot be published."""
    found = f"a file of {stored_bytes} bytes, too short for a mail" if stored_bytes else "no file that can be read"
    text = f"a mail came, but the API gives {found}: look for it in the mailbox folder of the daemon's working folder"
    return ManagerError("MailLast", ReturnCode.RET_OK_NONE, "RET_OK_NONE", text)
