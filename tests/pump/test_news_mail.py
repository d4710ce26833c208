"""News and mail: headers as published, bodies where the API gives one.

Private access: the keys of published news, because that their number is bounded shows only in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mt4pump.mt4.codes import PumpCode
from mt4pump.mt4.layout import MAIL_BOX, MAIL_PERSONAL, NEWS_TOPIC, NEWS_TOPIC_NEW
from mt4pump.pump import news_mail as messages_module
from tests.fake_manager import failed, lost
from tests.pump.harness import Harness, open_harness, own, seen

NEWS, NEWS_BODY = PumpCode.UPDATE_NEWS, PumpCode.UPDATE_NEWS_BODY
NEWS_NEW, MAIL = PumpCode.UPDATE_NEWS_NEW, PumpCode.UPDATE_MAIL


def news(key: int = 1, **values: Any) -> bytes:
    return NEWS_TOPIC.pack({"key": key, "topic": "Rates up", "time": 1000, **values})


def wide(key: int = 1, **values: Any) -> bytes:
    return NEWS_TOPIC_NEW.pack({"key": key, "subject": "Zinsen rauf €", **values})


def mail(to: int = 100, **values: Any) -> bytes:
    return MAIL_BOX.pack({"to": to, "sender": 1, "from": "Desk", "subject": "Hello", "time": 1000, **values})


@pytest.fixture(name="harness")
def _harness() -> Iterator[Harness]:
    with open_harness(b"news.", b"mail.", mail_fields=MAIL_PERSONAL) as made:
        made.start()
        yield made


def test_a_news_header_is_published_and_its_body_asked_for(harness: Harness) -> None:
    (message,) = harness.events_after(NEWS, 0, news(7, bodylen=5))
    assert message.topic == "news.7"
    assert own(message).keys() == NEWS_TOPIC.names("public") | {"action", "body"}
    assert (message.body["topic"], message.body["body"], message.body["action"]) == ("Rates up", None, "add")
    assert harness.manager.asked_bodies == [7]


def test_a_body_that_came_with_its_header_is_published_at_once_and_not_asked_for(harness: Harness) -> None:
    (message,) = harness.events_after(NEWS, 0, news(7, bodylen=4) + b"b\xf6dy")
    assert message.body["body"] == "bödy"
    assert harness.manager.asked_bodies == []
    assert harness.events_after(NEWS_BODY) == []


def test_a_body_that_arrives_later_is_published_with_its_header_once(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.events_after(NEWS, 0, news(8))
    assert harness.events_after(NEWS_BODY) == []
    harness.manager.bodies[8] = b"the body"
    assert seen(harness.events_after(NEWS_BODY), "action", "body", "topic", "seq") == [
        ("news.8", "update", "the body", "Rates up", 2)
    ]
    assert harness.events_after(NEWS_BODY) == []
    harness.manager.bodies[7] = b"the other"
    assert seen(harness.events_after(NEWS_BODY), "body") == [("news.7", "the other")]


def test_a_body_is_read_in_the_configured_code_page() -> None:
    with open_harness(b"news.", encoding="cp1251") as made:
        made.start()
        made.events_after(NEWS, 0, news(7))
        made.manager.bodies[7] = "Новости".encode("cp1251")
        assert seen(made.events_after(NEWS_BODY), "body") == [("news.7", "Новости")]


def test_news_that_never_get_a_body_are_given_up_and_counted_beyond_a_bound(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages_module, "AWAITED_LIMIT", 2)
    for key in (1, 2, 3):
        harness.events_after(NEWS, 0, news(key))
    assert harness.dispatcher.skipped()["news_bodies_given_up"] == 1
    harness.manager.bodies = {1: b"one", 2: b"two", 3: b"three"}
    assert seen(harness.events_after(NEWS_BODY), "body") == [("news.2", "two"), ("news.3", "three")]


def test_a_header_published_again_is_a_repeat_and_counted(harness: Harness) -> None:
    assert len(harness.events_after(NEWS, 0, news(7))) == 1
    assert harness.events_after(NEWS, 0, news(7)) == []
    assert harness.dispatcher.skipped()["news_repeats"] == 1
    assert len(harness.events_after(NEWS, 0, news(7, topic="Rates down"))) == 1


def test_a_header_published_again_after_a_reconnect_is_a_repeat(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.reconnect()
    harness.events_after(PumpCode.START_PUMPING)
    assert harness.events_after(NEWS, 0, news(7)) == []


@pytest.mark.parametrize(
    "again", [{"body": 0x2000}, {"bodylen": 9}, {"readed": 1}, {"reserved": [1]}], ids=lambda again: next(iter(again))
)
def test_a_header_is_the_same_whatever_the_api_notes_in_it_for_itself(harness: Harness, again: dict[str, Any]) -> None:
    assert len(harness.events_after(NEWS, 0, news(7, body=0x1000, bodylen=4) + b"body")) == 1
    assert harness.events_after(NEWS, 0, news(7, **again)) == []
    harness.manager.tables["news"] = news(7, **again)
    assert harness.events_after(NEWS) == []
    assert harness.dispatcher.skipped()["news_repeats"] == 2
    assert harness.manager.asked_bodies == []


@pytest.mark.parametrize(
    ("code", "make", "text", "other"),
    [
        (NEWS, news, "time", 5),
        *((NEWS, news, text, "other") for text in ("topic", "category", "keywords")),
        *((NEWS_NEW, wide, text, 5) for text in ("datetime", "language")),
        *((NEWS_NEW, wide, text, "other") for text in ("subject", "category")),
    ],
)
def test_a_header_with_another_text_is_news(
    harness: Harness, code: int, make: Callable[..., bytes], text: str, other: object
) -> None:
    harness.events_after(code, 0, make(7))
    assert seen(harness.events_after(code, 0, make(7, **{text: other})), "action") == [("news.7", "add")]


def test_a_list_read_again_after_the_body_came_publishes_nothing_and_asks_for_nothing(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.manager.bodies[7] = b"text"
    assert len(harness.events_after(NEWS_BODY)) == 1
    harness.manager.tables["news"] = news(7, body=0x3000, bodylen=4)
    assert harness.events_after(NEWS) == []
    assert harness.events_after(NEWS, 0, news(7) + b"text") == []
    assert harness.manager.asked_bodies == [7]


def test_a_header_published_again_with_the_body_that_it_lacked_is_an_update(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    again = news(7, body=0x1000, bodylen=4) + b"text"
    assert seen(harness.events_after(NEWS, 0, again), "action", "body") == [("news.7", "update", "text")]
    assert harness.events_after(NEWS, 0, again) == []
    harness.manager.bodies[7] = b"text"
    assert harness.events_after(NEWS_BODY) == [], "nobody waits for it any more"


def test_the_two_forms_of_one_key_do_not_make_each_other_news(harness: Harness) -> None:
    assert len(harness.events_after(NEWS, 0, news(7)) + harness.events_after(NEWS_NEW, 0, wide(7))) == 2
    assert harness.events_after(NEWS, 0, news(7)) + harness.events_after(NEWS_NEW, 0, wide(7)) == []


def test_published_news_are_remembered_up_to_a_bound(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages_module, "KNOWN_NEWS_LIMIT", 2)
    for key in (1, 2, 3):
        harness.events_after(NEWS, 0, news(key))
    assert len(harness.dispatcher.messages._known) == 2  # noqa: SLF001
    assert harness.events_after(NEWS, 0, news(3)) == []
    assert len(harness.events_after(NEWS, 0, news(1))) == 1


def test_a_doorbell_publishes_the_news_of_the_list_that_were_not_published_yet(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(1))
    harness.manager.tables["news"] = news(1) + news(2) + news(3)
    assert [message.topic for message in harness.events_after(NEWS)] == ["news.2", "news.3"]
    assert harness.events_after(NEWS) == []


def test_a_doorbell_without_any_list_publishes_nothing(harness: Harness) -> None:
    assert harness.events_after(NEWS) == []
    assert harness.fault_counters.counts == {}


@pytest.mark.parametrize("key", [0, 2**31, 2**32 - 1])
def test_a_key_is_an_unsigned_number(harness: Harness, key: int) -> None:
    assert [message.topic for message in harness.events_after(NEWS, 0, news(key))] == [f"news.{key}"]


def test_a_body_that_cannot_be_asked_for_costs_only_the_body(harness: Harness) -> None:
    harness.manager.failures["request_news_body"].append(failed("NewsBodyRequest"))
    assert len(harness.events_after(NEWS, 0, news(7))) == 1
    assert harness.fault_counters.counts == {"read_error": 1}


def test_one_body_that_cannot_be_asked_for_does_not_keep_the_rest_of_the_list(harness: Harness) -> None:
    harness.manager.tables["news"] = news(1) + news(2) + news(3)
    harness.manager.failures["request_news_body"].append(failed("NewsBodyRequest"))
    events = harness.events_after(NEWS) + harness.events_after(NEWS)
    assert [message.topic for message in events] == ["news.1", "news.2", "news.3"]


def test_a_body_that_cannot_be_read_is_counted_and_read_the_next_time(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.manager.bodies[7] = b"text"
    harness.manager.failures["news_body"].append(failed("NewsBodyGet"))
    assert harness.events_after(NEWS_BODY) == []
    assert harness.fault_counters.counts == {"read_error": 1}
    assert seen(harness.events_after(NEWS_BODY), "body") == [("news.7", "text")]


# Bodies over a reconnect


def test_bodies_that_did_not_come_are_asked_for_again_in_the_next_session(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.events_after(NEWS, 0, news(8) + b"here")
    harness.reconnect()
    harness.events_after(PumpCode.START_PUMPING)
    assert harness.manager.asked_bodies == [7]
    harness.events_after(NEWS, 0, news(7))
    assert harness.manager.asked_bodies == [7]
    harness.manager.bodies[7] = b"text"
    assert seen(harness.events_after(NEWS_BODY), "action", "body") == [("news.7", "update", "text")]


def test_a_body_that_was_asked_for_before_start_is_not_asked_for_twice(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.reconnect()
    harness.events_after(NEWS, 0, news(8))
    harness.events_after(PumpCode.START_PUMPING)
    assert sorted(harness.manager.asked_bodies) == [7, 8]


def test_a_body_that_the_next_session_cannot_ask_for_is_given_up_and_the_others_are_asked_for(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.events_after(NEWS, 0, news(8))
    harness.reconnect(lambda manager: manager.failures["request_news_body"].append(failed("NewsBodyRequest")))
    harness.events_after(PumpCode.START_PUMPING)
    assert harness.manager.asked_bodies == [8]
    assert harness.dispatcher.skipped()["news_bodies_given_up"] == 1
    assert harness.fault_counters.counts == {"read_error": 1}


def test_a_session_that_is_lost_while_bodies_are_asked_for_leaves_them_to_the_next(harness: Harness) -> None:
    harness.events_after(NEWS, 0, news(7))
    harness.reconnect(lambda manager: manager.failures["request_news_body"].append(lost("NewsBodyRequest")))
    harness.events_after(PumpCode.START_PUMPING)
    assert harness.fault_counters.counts == {"session_gone": 1}
    harness.reconnect()
    harness.events_after(PumpCode.START_PUMPING)
    assert harness.manager.asked_bodies == [7]


def test_a_body_that_could_not_be_asked_for_is_asked_for_in_the_next_session(harness: Harness) -> None:
    harness.manager.failures["request_news_body"].append(failed("NewsBodyRequest"))
    harness.events_after(NEWS, 0, news(7))
    harness.reconnect()
    harness.events_after(PumpCode.START_PUMPING)
    assert harness.manager.asked_bodies == [7]


# The wide form


def test_a_wide_header_is_published_with_its_text_and_its_used_languages(harness: Harness) -> None:
    (message,) = harness.events_after(NEWS_NEW, 0, wide(9, languages_list=[9, 0, 7], datetime=2**40))
    assert message.topic == "news.9"
    assert own(message).keys() == NEWS_TOPIC_NEW.names("public") | {"action", "body"}
    assert (message.body["subject"], message.body["languages_list"]) == ("Zinsen rauf €", [9, 7])
    assert (message.body["datetime"], message.body["body"]) == (2**40, None)


def test_a_wide_body_is_utf16(harness: Harness) -> None:
    (message,) = harness.events_after(NEWS_NEW, 0, wide(9) + "Körper €".encode("utf-16-le"))
    assert message.body["body"] == "Körper €"


def test_a_wide_header_is_the_same_whatever_the_api_notes_in_it_for_itself(harness: Harness) -> None:
    body = "ab".encode("utf-16-le")
    assert len(harness.events_after(NEWS_NEW, 0, wide(9, body=0x1000, body_len=4) + body)) == 1
    assert harness.events_after(NEWS_NEW, 0, wide(9, body=0x2000, body_len=4) + body) == []
    assert harness.events_after(NEWS_NEW, 0, wide(9, reserved=[1] * 30)) == []
    assert harness.dispatcher.skipped()["news_repeats"] == 2


def test_a_wide_header_published_again_with_the_body_that_it_lacked_is_an_update(harness: Harness) -> None:
    harness.events_after(NEWS_NEW, 0, wide(9))
    again = wide(9) + "ab".encode("utf-16-le")
    assert seen(harness.events_after(NEWS_NEW, 0, again), "action", "body") == [("news.9", "update", "ab")]
    assert harness.events_after(NEWS_NEW, 0, again) == []


def test_a_wide_doorbell_has_nothing_to_read(harness: Harness) -> None:
    assert harness.events_after(NEWS_NEW) == []
    assert harness.fault_counters.counts == {}


# Mail


def test_a_mail_is_published_on_the_topic_of_its_receiver(harness: Harness) -> None:
    (message,) = harness.events_after(MAIL, 0, mail(100) + b"Gr\xfc\xdfe")
    assert message.topic == "mail.100"
    assert own(message).keys() == MAIL_BOX.names("public") | {"action", "from", "subject", "body"}
    assert (message.body["subject"], message.body["body"]) == ("Hello", "Grüße")
    assert "last_mail" not in harness.manager.calls


def test_the_body_is_read_from_what_the_api_stored_of_the_same_mail(harness: Harness) -> None:
    harness.manager.mail = mail(100, readed=1) + b"stored"
    assert seen(harness.events_after(MAIL, 0, mail(100)), "body") == [("mail.100", "stored")]


def test_the_body_of_another_mail_is_not_taken(harness: Harness) -> None:
    harness.manager.mail = mail(100, subject="Other") + b"not this"
    assert seen(harness.events_after(MAIL, 0, mail(100)), "subject", "body") == [("mail.100", "Hello", None)]


def test_a_doorbell_publishes_the_mail_that_the_api_stored_last(harness: Harness) -> None:
    harness.manager.mail = mail(100) + b"stored"
    assert seen(harness.events_after(MAIL), "subject", "body") == [("mail.100", "Hello", "stored")]


def test_a_mail_is_published_once_however_often_its_bell_rings(harness: Harness) -> None:
    for readed in (0, 1):
        harness.manager.mail = mail(100, readed=readed) + b"stored"
        assert len(harness.events_after(MAIL)) == 1 - readed
    harness.manager.mail = mail(100, subject="Other") + b"stored"
    assert seen(harness.events_after(MAIL), "subject") == [("mail.100", "Other")]


def test_a_bell_for_a_mail_that_came_as_a_record_publishes_nothing(harness: Harness) -> None:
    assert len(harness.events_after(MAIL, 0, mail(100, body=0x1000, bodylen=2) + b"hi")) == 1
    harness.manager.mail = mail(100) + b"hi"
    assert harness.events_after(MAIL) == []


def test_a_bell_for_a_mail_that_was_published_without_its_body_publishes_it_with_it(harness: Harness) -> None:
    assert seen(harness.events_after(MAIL, 0, mail(100)), "body") == [("mail.100", None)]
    harness.manager.mail = mail(100) + b"hi"
    assert seen(harness.events_after(MAIL), "body") == [("mail.100", "hi")]
    assert harness.events_after(MAIL) == []


def test_two_records_of_equal_mails_are_two_mails(harness: Harness) -> None:
    assert len(harness.events_after(MAIL, 0, mail(100) + b"hi") + harness.events_after(MAIL, 0, mail(100) + b"hi")) == 2


@pytest.mark.parametrize("stored", [None, b"", b"too short to be one"])
def test_a_doorbell_of_a_mail_that_cannot_be_read_publishes_nothing_and_is_counted(
    harness: Harness, stored: bytes | None
) -> None:
    harness.manager.mail = stored
    assert harness.events_after(MAIL) == []
    assert harness.fault_counters.counts == {"read_error": 1}


def test_a_mail_whose_file_cannot_be_read_is_published_without_its_body(harness: Harness) -> None:
    harness.manager.failures["last_mail"].append(failed("MailLast"))
    assert seen(harness.events_after(MAIL, 0, mail(100)), "body") == [("mail.100", None)]


def test_a_doorbell_of_a_session_that_is_gone_is_counted(harness: Harness) -> None:
    harness.manager.failures["last_mail"].append(lost("MailLast"))
    assert harness.events_after(MAIL) == []
    assert harness.fault_counters.counts == {"session_gone": 1}


CANARY = "Jane Doe owes 500"
NAMED = ((), ("from",), ("subject",), ("body",), ("from", "subject"), ("from", "body"), ("subject", "body"))


@pytest.mark.parametrize("named", NAMED, ids=lambda named: "+".join(named) or "none")
@pytest.mark.parametrize("way", ["behind the record", "in the file", "bell"])
def test_personal_parts_of_a_mail_are_published_only_when_named(named: tuple[str, ...], way: str) -> None:
    record = mail(100, **{"from": CANARY, "subject": CANARY})
    with open_harness(b"mail.", mail_fields=frozenset(named)) as made:
        made.start()
        made.manager.mail = record + CANARY.encode()
        behind = CANARY.encode() if way == "behind the record" else b""
        (message,) = made.events_after(MAIL, 0, b"" if way == "bell" else record + behind)
    body = own(message)
    assert body.keys() == MAIL_BOX.names("public") | {"action"} | set(named)
    assert [body[name] for name in named] == [CANARY] * len(named)
    assert repr(message).count(CANARY) == len(named)


def test_without_bodies_the_apis_file_is_not_read_for_a_mail_that_came_as_a_record() -> None:
    with open_harness(b"mail.") as made:
        made.start()
        assert len(made.events_after(MAIL, 0, mail(100))) == 1
        assert "last_mail" not in made.manager.calls
        made.manager.mail = mail(100) + b"hi"
        assert made.events_after(MAIL) == []
        made.manager.mail = mail(100, subject="Other") + b"hi"
        assert len(made.events_after(MAIL)) == 1
