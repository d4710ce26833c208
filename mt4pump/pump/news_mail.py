"""News and mail: headers as told, bodies where the API gives one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgpack

from mt4pump.errors import ConnectionLost, ManagerError
from mt4pump.mt4.codes import ReturnCode
from mt4pump.mt4.decode import Decoder, Fields, ansi_text, utf16_text
from mt4pump.mt4.layout import MAIL_BOX, MAIL_PERSONAL, NEWS_TOPIC, NEWS_TOPIC_NEW
from mt4pump.mt4.record import Record
from mt4pump.pump.event_writer import EventWriter
from mt4pump.pump.session import CurrentSession, ManagerSession
from mt4pump.pump.table_diff import ADD, UPDATE, fingerprint
from mt4pump.wire import MAIL, NEWS

AWAITED_LIMIT = 1_000
"""News whose body was asked for and did not come yet; the oldest is given up beyond this."""
TOLD_LIMIT = 10_000
"""News keys remembered, so that a header that the server sends again after a reconnect is no news."""

# What makes a message the one that it is. The rest of a record changes while the message stays: the API's pointer to
# the body, the body's length, the mark of having been read.
NEWS_MARK = ("time", "topic", "category", "keywords")
NEWS_NEW_MARK = ("datetime", "language", "subject", "category")
MAIL_MARK = ("time", "sender", "to", "subject")


@dataclass(slots=True)
class KnownNews:
    """A message as last told: what makes it itself, and whether it was told with its body."""

    mark: bytes
    with_body: bool


class NewsMailHandler:
    """``repeats`` counts news headers that were told before; ``bodies_given_up`` bodies that never came.

    ``mail_fields`` are the personal parts of a mail that are published; without them it is who wrote whom, and when.
    """

    def __init__(
        self, writer: EventWriter, reader: CurrentSession, encoding: str, mail_fields: frozenset[str] = frozenset()
    ) -> None:
        self.repeats = 0
        self.bodies_given_up = 0
        self._writer = writer
        self._reader = reader
        self._encoding = encoding
        self._news = Decoder(NEWS_TOPIC, encoding)
        self._news_new = Decoder(NEWS_TOPIC_NEW, encoding)
        self._mail = Decoder(MAIL_BOX, encoding, MAIL_PERSONAL)  # all of it: a mail is known by its subject, too
        self._mail_unnamed = MAIL_PERSONAL - mail_fields
        self._awaited: OrderedDict[int, tuple[Fields, ManagerSession | None]] = (
            OrderedDict()
        )  # the session asked; None: refused
        self._told: OrderedDict[tuple[tuple[str, ...], int], KnownNews] = OrderedDict()  # the two forms may share keys
        self._last_mail: KnownNews | None = None

    def news(self, data: bytes, ts: int) -> None:
        """Tell a news header; without one, those of the API's list that were not told yet."""
        if data:
            self._tell_news(*_split(data, NEWS_TOPIC), ts)
            return
        array = self._reader.manager.table("news")
        for start in range(0, len(array), NEWS_TOPIC.size):
            self._tell_news(array[start : start + NEWS_TOPIC.size], b"", ts)

    def news_new(self, data: bytes, ts: int) -> None:
        """Tell a news in the wide form; without data there is nothing to read, as the API has no list of these."""
        if not data:
            return
        record, body = _split(data, NEWS_TOPIC_NEW)
        fields = self._news_new(record)
        fields["languages_list"] = [language for language in fields["languages_list"] if language]
        self._tell_header(fields, utf16_text(body) if body else None, NEWS_NEW_MARK, ts)

    def ask_again(self) -> None:
        """Ask a session that began for the bodies that an earlier one was asked for and did not bring.

        Raises the last refusal of the API: a body that cannot be asked for is given up.
        """
        manager, link = self._reader.manager, self._reader.link
        refusal: ManagerError | None = None
        for key, (fields, session) in list(self._awaited.items()):
            if session is link:
                continue  # its header came before START
            try:
                manager.request_news_body(key)
            except ConnectionLost:
                raise
            except ManagerError as error:
                refusal = error
                self._give_up(key)
            else:
                self._awaited[key] = fields, link
        if refusal is not None:
            raise refusal

    def bodies(self, ts: int) -> None:
        """Tell the bodies that arrived: the event does not say whose, so each awaited one is looked for."""
        manager = self._reader.manager
        for key in list(self._awaited):
            body = manager.news_body(key)
            if body is not None:
                fields, _ = self._awaited.pop(key)
                if told := self._told.get((NEWS_MARK, key)):
                    told.with_body = True
                text = ansi_text(body, self._encoding)
                self._writer.write(NEWS, key, {**fields, "body": text, "action": UPDATE}, ts)

    def mail(self, data: bytes, ts: int) -> None:
        """Tell a mail. Its body is behind the record, or in the file that the API stored its last mail in.

        A bell without a record may ring more than once for the same mail, or for one that came as a record: it is told
        once, or again with its body when it was told without. Raises ManagerError for a bell whose mail cannot be read.
        """
        record, body = _split(data, MAIL_BOX)
        fault: ManagerError | None = None
        if not body and not (record and "body" in self._mail_unnamed):
            stored = b""
            try:
                stored = self._reader.manager.last_mail() or b""
            except ManagerError as error:
                fault = error  # costs the body, not the mail
            head, behind = _split(stored, MAIL_BOX)
            if len(head) == MAIL_BOX.size and (not record or self._is_same_mail(head, record)):
                record, body = head, behind
            elif not record and fault is None:
                fault = _no_mail(len(stored))
        if record:
            self._tell_mail(self._mail(record), body, ts, by_bell=not data)
        if fault is not None:
            raise fault

    def _tell_mail(self, fields: Fields, body: bytes, ts: int, *, by_bell: bool) -> None:
        mark, last = _mark(fields, MAIL_MARK), self._last_mail
        if "body" in self._mail_unnamed:
            body = b""
        if by_bell and last and last.mark == mark and (last.with_body or not body):
            return
        self._last_mail = KnownNews(mark, with_body=bool(body))
        text = ansi_text(body, self._encoding) if body else None
        event = {**fields, "body": text, "action": ADD}
        for name in self._mail_unnamed:
            del event[name]
        self._writer.write(MAIL, fields["to"], event, ts)

    def _is_same_mail(self, one: bytes, other: bytes) -> bool:
        return _mark(self._mail(one), MAIL_MARK) == _mark(self._mail(other), MAIL_MARK)

    def _tell_news(self, record: bytes, body: bytes, ts: int) -> None:
        fields = self._news(record)
        key, text = fields["key"], ansi_text(body, self._encoding) if body else None
        is_new = self._tell_header(fields, text, NEWS_MARK, ts)
        if text is not None:
            self._awaited.pop(key, None)
        elif is_new:
            self._awaited[key] = fields, None
            if len(self._awaited) > AWAITED_LIMIT:
                self._give_up(next(iter(self._awaited)))
            self._reader.manager.request_news_body(key)
            self._awaited[key] = fields, self._reader.link

    def _give_up(self, key: int) -> None:
        del self._awaited[key]
        self.bodies_given_up += 1

    def _tell_header(self, fields: Fields, text: str | None, marked_by: tuple[str, ...], ts: int) -> bool:
        """Tell a headline, and return whether it is new; one told before is told again only with a body it lacked."""
        key = fields["key"]
        mark, told = _mark(fields, marked_by), self._told.get((marked_by, key))
        is_new = told is None or told.mark != mark
        if told is not None and not is_new and (told.with_body or text is None):
            self.repeats += 1
            return False
        self._told[marked_by, key] = KnownNews(mark, with_body=text is not None)
        self._told.move_to_end((marked_by, key))
        if len(self._told) > TOLD_LIMIT:
            self._told.popitem(last=False)
        self._writer.write(NEWS, key, {**fields, "body": text, "action": ADD if is_new else UPDATE}, ts)
        return is_new


def _split(data: bytes, record: Record) -> tuple[bytes, bytes]:
    """Return the record and the body behind it."""
    return data[: record.size], data[record.size :]


def _mark(fields: Fields, names: tuple[str, ...]) -> bytes:
    return fingerprint(msgpack.packb([fields[name] for name in names]))


def _no_mail(stored_bytes: int) -> ManagerError:
    """Return what to say of a bell whose mail is not told: it is lost to readers."""
    found = f"a file of {stored_bytes} bytes, too short for a mail" if stored_bytes else "no file that can be read"
    text = f"a mail came, but the API gives {found}: look for it in the mailbox folder of the daemon's working folder"
    return ManagerError("MailLast", ReturnCode.RET_OK_NONE, "RET_OK_NONE", text)
