"""News in both forms, and mail."""

from __future__ import annotations

from typing import Any

from mt4pump.mt4.codes import PumpCode
from tests.vectors.case import Case, Step, call, case, mail_file, news_body, rec, table
from tests.vectors.cases.texts import BROKEN, TEXTS

NEWS: dict[str, Any] = {
    "key": 123_456,
    "time": 1_577_916_000,
    "ctm": "2020.01.01 22:00",
    "topic": "Rates unchanged",
    "category": "Central banks",
    "keywords": "rates,euro",
    "bodylen": 5,
    "priority": 1,
    "langid": 1033,
}
WIDE: dict[str, Any] = {
    "key": 777,
    "language": 1033,
    "subject": "Rates unchanged",
    "category": "Banks",
    "flags": 9,
    "body_len": 10,
    "languages_list": [1033, 0, 1049],
    "datetime": 1_577_916_000,
}
MAIL: dict[str, Any] = {
    "time": 1_577_916_000,
    "sender": 1,
    "from": "Support",
    "to": 1_001,
    "subject": "Welcome",
    "bodylen": 5,
    "build_min": 0,
    "build_max": 1400,
}
EVERY_FIELD = ["body", "from", "subject"]
FULL: dict[str, Any] = {"from": "f" * 64, "subject": "s" * 128}
BODIES, BELL = call(PumpCode.UPDATE_NEWS_BODY), call(PumpCode.UPDATE_MAIL)


def news(behind: bytes = b"", /, **fields: Any) -> Step:
    """Return a callback with the usual headline, changed."""
    return call(PumpCode.UPDATE_NEWS, 0, rec("NewsTopic", NEWS, fields), behind)


def wide(behind: bytes = b"", /, **fields: Any) -> Step:
    """Return a callback with the usual headline in the wide form, changed."""
    return call(PumpCode.UPDATE_NEWS_NEW, 0, rec("NewsTopicNew", WIDE, fields), behind)


def mail(behind: bytes = b"", /, **fields: Any) -> Step:
    """Return a callback with the usual mail, changed."""
    return call(PumpCode.UPDATE_MAIL, 0, rec("MailBox", MAIL, fields), behind)


def cases() -> dict[str, list[Case]]:
    """Return the cases of both kinds."""
    return {"news": [*_news(), *_wide()], "mail": _mails()}


def _news() -> list[Case]:
    return [
        case("headline", news()),
        case("with its body", news(b"hello")),
        case("the body comes later", news(), news_body(123_456, b"hello"), BODIES),
        case("told twice, is one", news(), news()),
        case("the same key with another headline", news(), news(topic="Rates changed")),
        case("from the API's list", table("news", rec("NewsTopic", NEWS)), call(PumpCode.UPDATE_NEWS)),
        case("key beyond a signed number", news(key=2**32 - 1)),
        case("all zero", call(PumpCode.UPDATE_NEWS, 0, rec("NewsTopic"))),
        case("time before 1970", news(time=-1)),
        case("texts full, without a NUL", news(topic="t" * 256, category="c" * 64, keywords="k" * 256, ctm="2" * 32)),
        case("suffix on the topic", news(), topic_suffix="|"),
        *(case(f"texts in {page}", news(text.encode(page), topic=text), encoding=page) for page, text in TEXTS.items()),
        *(case(f"topic broken in {page}", news(topic=raw), encoding=page) for page, raw in BROKEN.items()),
    ]


def _wide() -> list[Case]:
    return [
        case("wide: headline", wide()),
        case("wide: with its body", wide("hellö".encode("utf-16-le"))),
        case("wide: letters of many scripts", wide(subject="Zürich Рубль 日本円", category="שלום")),
        case("wide: a letter beyond 16 bits", wide(subject="up 👍")),
        case("wide: half of such a letter", wide(subject="x".encode("utf-16-le") + b"\x3d\xd8")),
        case("wide: texts full, without a NUL", wide(subject="s" * 256, category="Ж" * 256)),
        case("wide: texts empty", wide(subject="", category="")),
        case("wide: a NUL byte within a unit", wide(subject="Āa")),
        case("wide: numbers at their ends", wide(key=2**32 - 1, flags=2**32 - 1, datetime=-(2**63))),
        case("wide: all languages", wide(languages_list=list(range(1, 33)))),
        case("wide: told twice, is one", wide(), wide()),
    ]


def mail_case(name: str, *steps: Step, **settings: Any) -> Case:
    """Return a case of a daemon that publishes the personal parts of mails, too."""
    return case(name, *steps, mail_fields=EVERY_FIELD, **settings)


def _mails() -> list[Case]:
    return [
        mail_case("with its body", mail(b"hello")),
        mail_case("without a body", mail()),
        mail_case("the body is in the API's file", mail_file(rec("MailBox", MAIL), b"from the file"), mail()),
        mail_case("the file is another mail's", mail_file(rec("MailBox", MAIL, to=9), b"other"), mail()),
        mail_case("a bell, and the API's file", mail_file(rec("MailBox", MAIL), b"hello"), BELL),
        mail_case("a bell twice, is one mail", mail_file(rec("MailBox", MAIL), b"hello"), BELL, BELL),
        mail_case("a bell with nothing behind it", BELL),
        mail_case("logins below zero", mail(sender=-1, to=-1_001)),
        mail_case("all zero", call(PumpCode.UPDATE_MAIL, 0, rec("MailBox"))),
        mail_case("texts full, without a NUL", mail(b"", **FULL)),
        mail_case("builds at their ends", mail(build_min=-32768, build_max=32767)),
        *(
            mail_case(f"texts in {page}", mail(TEXTS[page].encode(page), subject=TEXTS[page]), encoding=page)
            for page in ("cp1251", "cp1252", "cp932", "utf-8")
        ),
        mail_case("body broken in cp1252", mail(BROKEN["cp1252"])),
        case("personal data is not asked for", mail(b"hello")),
        case("mail_fields: subject", mail(b"hello"), mail_fields=["subject"]),
        case("mail_fields: body", mail(b"hello"), mail_fields=["body"]),
        case(
            "no field is asked for: a bell for a mail that came as a record",
            mail(),
            mail_file(rec("MailBox", MAIL), b"x"),
            BELL,
        ),
    ]
