"""The file of rules: what it may say, and what a mistake in it is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from mt4pump_consumers.monitor.rules import MarginCall, Volume, load_rules

GOOD = '[[rule]]\nname = "big"\nwhen = "volume"\nlots = 50\n'


def test_rules_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD + '[[rule]]\nname = "calls"\nwhen = "margin_call"\n')
    big, calls = load_rules(path)
    assert isinstance(big, Volume)
    assert isinstance(calls, MarginCall)
    assert (big.lots, big.severity, big.quiet_s) == (50, "warning", 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "rule: Field required"),
        ("rule = []", "at least 1 item"),
        ("[[rule]", "is not TOML"),
        ("rule = " + 5_000 * "9", "number too long"),
        ("rule = " + 5_000 * "[", "brackets too deep"),
        (GOOD + GOOD, "two rules have the name big"),
        (GOOD.replace("50", "0"), "rule 1 volume lots: Input should be greater than 0"),
        (GOOD.replace("lots", "lot"), "rule 1 volume lots: Field required"),
        (GOOD + 'colour = "red"\n', "rule 1 volume colour: Extra inputs are not permitted"),
        (
            GOOD.replace('"volume"', '"volumes"'),
            "'volume', 'loss', 'account', 'quick_close', 'margin_call', 'feed_silent'",
        ),
        ('[[rule]]\nname = "a"\nwhen = "account"\n', "accounts is empty"),
        ('[[rule]]\nname = "a"\nwhen = "account"\naccounts = [1]\nchanges = ["open"]\n', "there is no change open"),
        ('[[rule]]\nname = "a"\nwhen = "feed_silent"\nseconds = 5\nof = "mail"\n', "'quotes', 'session' or 'daemon'"),
    ],
)
def test_a_mistake_is_answered_with_its_place_and_what_would_be_right(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"rules\.toml") as caught:
        load_rules(path)
    assert words in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none\.toml"):
        load_rules(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"bytes\.toml is not UTF-8"):
        load_rules(tmp_path / "bytes.toml")
