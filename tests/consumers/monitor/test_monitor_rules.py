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
        ("", "rules.toml: there is no rule: begin each rule with [[rule]]"),
        ("rule = []", "there is no rule: begin each rule with [[rule]]"),
        ("rule = [1]", "rule 1: 1 is no table: begin each rule with [[rule]]"),
        (GOOD.replace("[[rule]]", "[rule]"), "[rule] is one table alone: write [[rule]]"),
        (GOOD.replace("rule", "rules"), "rules: means nothing here: did you mean rule?"),
        ("[[rule]", "is not TOML"),
        ("rule = " + 5_000 * "9", "number too long"),
        ("rule = " + 5_000 * "[", "brackets too deep"),
        (GOOD + GOOD, "rules.toml: two rules have the name big"),
        (GOOD.replace("50", "0"), "rules.toml: rule 1 (line 4), lots: 0 is not a number above 0"),
        (GOOD.replace("50", '"a"'), "rules.toml: rule 1 (line 4), lots: 'a' is not a number above 0"),
        (GOOD + "quiet_s = inf\n", "rule 1 (line 5), quiet_s: inf is not a number of at least 0"),
        (
            f"# mine\r\n{GOOD}\n [[ 'rule' ]] # two\n" + GOOD[9:].replace("lots", "lot"),
            "rule 2 (line 7), lots: is missing: write a number above 0; rule 2 (line 10), lot: means nothing here: did",
        ),
        (
            GOOD + "amount = 5\n",
            "rule 1 (line 5), amount: belongs to rules of the kind loss: one of volume has name, severity, quiet_s, ",
        ),
        (GOOD + "seconds = 5\n", "seconds: belongs to rules of the kind quick_close or feed_silent: one of volume"),
        (
            GOOD + "colour = 'red'\n",
            "rule 1 (line 5), colour: means nothing here: remove it, or write one of name",
        ),
        (GOOD.replace('"volume"', '"volum"'), "rule 1 (line 3), when: there is no kind 'volum': did you mean volume?"),
        (GOOD.replace('when = "volume"', ""), "rule 1 (line 1), when: is missing: write one of volume, loss, account,"),
        (
            GOOD + "accounts = ['x', 1.5]\n",
            "accounts: 'x' is not a whole number; rule 1 (line 5), accounts: 1.5 is not",
        ),
        (GOOD + "accounts = 1001\n", "rule 1 (line 5), accounts: 1001 is not a list, as [1001, 1002]"),
        (GOOD + "symbols = 'EURUSD'\n", "rule 1 (line 5), symbols: 'EURUSD' is not a list of texts"),
        (GOOD + "severity = 'warn'\n", "severity: 'warn' is not info, warning or critical: did you mean warning?"),
        (GOOD.replace('"big"', '""'), "rule 1 (line 2), name: '' is not text of 1 to 100 characters"),
        ('[[rule]]\nname = "a"\nwhen = "account"\n', "rule 1 (line 1): accounts is empty"),
        ('[[rule]]\nname = "a"\nwhen = "account"\naccounts = [1]\nchanges = ["open"]\n', "there is no change open"),
        ('[[rule]]\nname = "a"\nwhen = "feed_silent"\nseconds = 5\nof = "mail"\n', "'mail' is not quotes, session or"),
        ('[[rule]]\nname = "a"\nwhen = "margin_call"\ntell_end = "x"\n', "tell_end: 'x' is not true or false"),
    ],
)
def test_a_mistake_is_answered_with_its_place_and_what_would_be_right(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"rules\.toml") as caught:
        load_rules(path)
    assert words in str(caught.value)
    assert "Input" not in str(caught.value)  # pydantic's words
    assert "Tuple" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none\.toml"):
        load_rules(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"bytes\.toml is not UTF-8"):
        load_rules(tmp_path / "bytes.toml")
