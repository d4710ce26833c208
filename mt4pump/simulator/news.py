"""News and mail of the simulated server."""

from __future__ import annotations

from collections import OrderedDict

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import MAIL_BOX, NEWS_TOPIC, NEWS_TOPIC_NEW
from mt4pump.simulator.context import Context

NEWS_KEPT = 64
"""Topics in the news table; older ones fall out."""
FIRST_KEY = 7001
ENGLISH = 0x09
FLAG_PRIORITY = 1

SUBJECTS = (
    ("Economy", "{place} consumer prices rise {n}.{d}% in a year"),
    ("Economy", "{place} jobless rate at {n}.{d}%"),
    ("Central banks", "{place} central bank leaves its rate at {n}.{d}%"),
    ("Markets", "Shares in {place} end {n}.{d}% higher"),
    ("Markets", "Gold steady as traders wait for {place} data"),
    ("Energy", "Crude oil gains {n}.{d}% on supply worries in {place}"),
)
PLACES = ("US", "Euro area", "UK", "Japan", "Swiss", "Canadian", "Australian", "New Zealand", "China")
MAILS = (
    ("Planned maintenance", "The server will be restarted on Saturday between 03:00 and 04:00 server time."),
    ("Swap rates changed", "New swap rates apply from Monday. Please see the contract specification."),
    ("Holiday trading hours", "Trading hours change during the holidays."),
    ("Margin call notice", "Some accounts of your groups are below their margin call level."),
)
SENDER, RECIPIENT = 1, 42


class SimulatedNews:
    """The news table with its bodies, and the last mail."""

    def __init__(self, stage: Context) -> None:
        self._stage = stage
        self._random = stage.random
        self._next_key = FIRST_KEY
        self._topics: OrderedDict[int, bytes] = OrderedDict()
        self._bodies: dict[int, bytes] = {}
        self.last_mail: bytes | None = None
        for _ in range(3):
            self._write()

    def publish(self) -> int:
        """Publish news with UPDATE_NEWS and return its key."""
        key = self._write()
        self._stage.emit(PumpCode.UPDATE_NEWS, 0, self._topics[key])
        return key

    def publish_new(self) -> None:
        """Publish news in the newer record, with UPDATE_NEWS_NEW; the news table does not hold it."""
        category, subject = self._subject()
        key, self._next_key = self._next_key, self._next_key + 1
        record = NEWS_TOPIC_NEW.pack(
            {
                "key": key, "language": ENGLISH, "subject": subject, "category": category,
                "flags": FLAG_PRIORITY if self._random.random() < 0.2 else 0, "body_len": 0,
                "languages_list": [ENGLISH], "datetime": self._stage.clock.server_time_s,
            }
        )  # fmt: skip
        self._stage.emit(PumpCode.UPDATE_NEWS_NEW, 0, record)

    def send_mail(self) -> None:
        """Send the manager a mail and tell it."""
        subject, text = self._random.choice(MAILS)
        body = text.encode(self._stage.encoding, "replace")
        record = MAIL_BOX.pack(
            {
                "time": self._stage.clock.server_time_s, "sender": SENDER, "from": "Simulated Brokers Ltd.",
                "to": RECIPIENT, "subject": subject, "bodylen": len(body),
            },
            self._stage.encoding,
        )  # fmt: skip
        self.last_mail = record + body
        self._stage.emit(PumpCode.UPDATE_MAIL, 0, record)

    def body(self, key: int) -> bytes | None:
        """Return the body of news ``key`` in the server's code page; None when the table has no such news."""
        return self._bodies.get(key)

    def table(self) -> bytes:
        """Return the NewsTopic array, oldest first."""
        return b"".join(self._topics.values())

    def _subject(self) -> tuple[str, str]:
        random = self._random
        category, pattern = random.choice(SUBJECTS)
        return category, pattern.format(place=random.choice(PLACES), n=random.randrange(6), d=random.randrange(10))

    def _write(self) -> int:
        category, topic = self._subject()
        key, self._next_key = self._next_key, self._next_key + 1
        body = f"{topic}.\r\nThis text was made up by the simulator: nothing of it happened.\r\n"
        self._bodies[key] = body.encode(self._stage.encoding, "replace")
        now = self._stage.clock.server_time_s
        hours, minutes, seconds = now % 86_400 // 3600, now % 3600 // 60, now % 60
        fields = {
            "key": key, "time": now, "ctm": f"{hours:02}:{minutes:02}:{seconds:02}", "topic": topic,
            "category": category, "keywords": "simulated", "bodylen": len(self._bodies[key]),
            "priority": int(self._random.random() < 0.2), "langid": ENGLISH,
        }  # fmt: skip
        self._topics[key] = NEWS_TOPIC.pack(fields, self._stage.encoding)
        if len(self._topics) > NEWS_KEPT:
            oldest, _ = self._topics.popitem(last=False)
            del self._bodies[oldest]
        return key
