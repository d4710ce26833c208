"""``deploy/prometheus``: promtool reads all of it, and every alert is proven to fire and to be quiet."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mt4pump.client.event import WARNINGS
from tests.consumers.metrics.metrics_run import PROMETHEUS, ROOT, promtool
from tests.deploy.test_guide import written

RULES, CASES = PROMETHEUS / "mt4pump.rules.yml", PROMETHEUS / "mt4pump.rules.test.yml"
WEEKEND = PROMETHEUS / "mt4pump.weekend.test.yml"
FIRES, IS_QUIET = "fires", "is quiet"
UNLOGGED = {f"MT4Pump{name}" for name in ("ClocksDiffer", "Mute", "LatencyHigh", "ClockJumped", "QueriesDropped")}
"""Alerts about which no program has a log line; the guide has the reason of each."""
REASON = re.compile(r"none: .{30,}")


def alerts() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)


def cases() -> list[tuple[str, str]]:
    """Return (alert, whether it fires or is quiet) of each case of the test file."""
    text = CASES.read_text(encoding="utf-8")
    found = re.findall(r"^ +alertname: (\w+)\n +exp_alerts:( \[\])?$", text, re.MULTILINE)
    return [(alert, IS_QUIET if empty else FIRES) for alert, empty in found]


def test_prometheus_takes_the_scrape_configuration() -> None:
    code, said = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert code == 0, said
    assert f"{len(alerts())} rules found" in said


def test_promtool_takes_the_rules() -> None:
    code, said = promtool("check", "rules", "--lint-fatal", RULES)
    assert code == 0, said


def test_every_case_is_as_it_should_be() -> None:
    code, said = promtool("test", "rules", CASES, WEEKEND)
    assert code == 0, said


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    assert len(alerts()) == len(set(alerts())) > 20
    assert set(cases()) == {(alert, how) for alert in alerts() for how in (FIRES, IS_QUIET)}


def test_every_alert_links_its_section_of_the_guide() -> None:
    sections = re.findall(r"^### (\w+)$", (PROMETHEUS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    links = re.findall(r"^ +runbook_url: (\S+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
    assert (
        links
        == [f"README.md#{alert.lower()}" for alert in alerts()]
        == [f"README.md#{name.lower()}" for name in sections]
    )


def test_a_rule_that_never_fires_would_be_found(tmp_path: Path) -> None:
    text = RULES.read_text(encoding="utf-8")
    broken, count = re.subn(r"( +expr: )(?:[|>]-?\n(?: {10}.*\n)+|.*\n)", r"\1vector(1) > 2\n", text)
    assert count == len(alerts())
    (tmp_path / RULES.name).write_text(broken, encoding="utf-8")
    shutil.copy(CASES, tmp_path)
    code, said = promtool("test", "rules", tmp_path / CASES.name)
    assert code != 0
    assert set(re.findall(r"alertname: (\w+)", said)) == set(alerts())


def test_a_rule_that_always_fires_would_be_found(tmp_path: Path) -> None:
    text = RULES.read_text(encoding="utf-8")
    broken, count = re.subn(r"( +expr: )(?:[|>]-?\n(?: {10}.*\n)+|.*\n)(?: +for: .*\n)?", r"\1vector(1)\n", text)
    assert count == len(alerts())
    (tmp_path / RULES.name).write_text(broken, encoding="utf-8")
    shutil.copy(CASES, tmp_path)
    _, said = promtool("test", "rules", tmp_path / CASES.name)
    quiet = re.findall(r"alertname: (\w+), time: \S+,?\s+exp:\s*\[\s*\]", said)
    assert set(quiet) == set(alerts())


def test_the_rules_ask_for_metrics_that_the_exporter_has() -> None:
    package = ROOT / "consumers" / "mt4pump_consumers"
    source = "".join(path.read_text(encoding="utf-8") for path in package.glob("*/*.py"))
    for name in set(re.findall(r"\bmt4pump_[a-z_]+", RULES.read_text(encoding="utf-8"))):
        own = re.fullmatch(r"(mt4pump_(?:gateway|monitor|nats))_(\w+?)(?:_total)?", name)
        for part in own.groups() if own else [name.removesuffix("_bucket")]:
            assert part == "up" or f'"{part}"' in source, name


def test_the_guide_names_for_each_alert_a_metric_of_its_rule_and_a_line_that_a_program_logs() -> None:
    guide, rules = (PROMETHEUS / "README.md").read_text(encoding="utf-8"), RULES.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (MT4Pump\w+) \| `(\w+)` \| (.+) \|$", guide, re.MULTILINE)
    assert [alert for alert, _, _ in rows] == alerts()
    without = set()
    for alert, metric, line in rows:
        rule = rules.split(f"alert: {alert}\n")[1].split("annotations:")[0]
        assert re.search(rf"\b{metric}\b", rule), alert
        quoted = re.findall(r"`([^`]+)`", line)
        without |= {alert} if REASON.fullmatch(line) else set()
        assert quoted or REASON.fullmatch(line), alert
        for text in quoted:
            kind = text.removesuffix(": ")
            assert text in written() or kind in WARNINGS, (alert, text)
    assert without == UNLOGGED


def test_log_alert_and_guides_say_the_same_of_a_damaged_journal() -> None:
    consequence = "offsets continue in a new file, readers cannot resume: they start again from a snapshot"
    guide, symptoms = (folder / "README.md" for folder in (PROMETHEUS, PROMETHEUS.parent))
    table, section = (
        part.partition("\n#")[0] for part in guide.read_text(encoding="utf-8").split("MT4PumpJournalDamaged")[1:]
    )
    alert = RULES.read_text(encoding="utf-8").split("alert: MT4PumpJournalDamaged")[1].partition("alert:")[0]
    (symptom,) = re.findall(r"\| `the file is damaged:.*", symptoms.read_text(encoding="utf-8"))
    for text in (written(), table, section, alert, symptom):
        assert consequence in text


def test_texts_that_the_sections_quote_as_log_lines_are_the_programs() -> None:
    sections = (PROMETHEUS / "README.md").read_text(encoding="utf-8").split("## When an alert fires")[1]
    quoted = [text for text in re.findall(r"`([^`\n]+)`", sections) if text.endswith(": ") or text.startswith(": ")]
    assert quoted
    assert [text for text in quoted if text not in written()] == []
