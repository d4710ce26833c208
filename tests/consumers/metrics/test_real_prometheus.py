"""A real Prometheus server scrapes a real exporter: every query of the dashboard, and of the alerts, has an answer."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.chaos.processes import free_ports
from tests.consumers.metrics.metrics_run import (
    LIMIT_S,
    PROMETHEUS,
    Daemon,
    daemon,
    exporter,
    started,
    tool,
    until,
    value,
)
from tests.consumers.metrics.test_dashboard import dashboard, panels
from tests.programs import program

SCRAPE_S = 1
WINDOW = f"{10 * SCRAPE_S}s"
VARIABLES = {"$__rate_interval": WINDOW, "$__interval": f"{SCRAPE_S}s", "$job": ".*", "$instance": ".*"}
START_LIMIT_S = 60.0
Result = list[dict[str, Any]]


class Server:
    """A Prometheus."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1/"

    def ask(self, path: str, **parameters: str) -> Any:
        with urlopen(f"{self._base}{path}?{urlencode(parameters)}", timeout=LIMIT_S) as reply:  # noqa: S310
            answer = json.load(reply)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> Result:
        """Return the samples that an expression has now."""
        for variable, text in VARIABLES.items():
            expression = expression.replace(variable, text)
        data = self.ask("query", query=expression)
        assert data["resultType"] == "vector"
        result: Result = data["result"]
        return result

    def answers(self, expression: str) -> None:
        """Fail unless the expression has an answer that is a number, soon."""
        try:
            until(lambda: any(each["value"][1] != "NaN" for each in self.query(expression)), expression)
        except AssertionError as error:
            active = self.ask("targets")["activeTargets"]
            targets = [(each["scrapeUrl"], each["health"], each["lastError"]) for each in active]
            raise AssertionError(f"{error}; targets: {targets}") from None


class Consumer(NamedTuple):
    """A consumer beside the exporter: its package, its port in ``prometheus.yml``, and its flags but for that port."""

    package: str
    shipped_port: int
    flags: tuple[str, ...]


CONSUMERS = (
    Consumer("archive", 9567, ("--metrics-port",)),
    Consumer("gateway", 9565, ("--anonymous", "--port", "0", "--health-port")),
    Consumer("monitor", 9566, ("--view", "log", "--health-port")),
    Consumer("nats_bridge", 9568, ("--servers", "nats://127.0.0.1:9", "--health-port")),  # there is no NATS
)


@contextmanager
def consumers(folder: Path, source: Daemon) -> Iterator[dict[int, int]]:
    """Run the other consumers; give the port of each by the shipped one."""
    where = ["--endpoint", source.endpoint, "--query-endpoint", source.query_endpoint]
    ports = dict(zip((each.shipped_port for each in CONSUMERS), free_ports(len(CONSUMERS)), strict=True))
    with ExitStack() as at_end:
        for package, shipped, flags in CONSUMERS:
            command = ["-m", f"mt4pump_consumers.{package}", *where, *flags, str(ports[shipped])]
            at_end.enter_context(program(started(folder, sys.executable, *command))).line("metrics are served on")
        yield ports


@contextmanager
def prometheus(folder: Path, ports: dict[int, int]) -> Iterator[Server]:
    """Run a Prometheus with the shipped configuration and all its jobs, but for the ports and the intervals."""
    config = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    config = re.sub(r"^  # (- job_name:|  static_configs:|    - targets:)", r"  \1", config, flags=re.MULTILINE)
    for shipped, port in ports.items():
        assert config.count(f"127.0.0.1:{shipped}") == 1
        config = config.replace(f"127.0.0.1:{shipped}", f"127.0.0.1:{port}")
    config = config.replace("interval: 15s", f"interval: {SCRAPE_S}s")
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    (folder / "mt4pump.rules.yml").write_bytes((PROMETHEUS / "mt4pump.rules.yml").read_bytes())
    flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", "--web.listen-address=127.0.0.1:0"]
    with program(started(folder, tool("prometheus"), *flags)) as server:
        found = re.search(r"address=127\.0\.0\.1:([1-9]\d*)", server.line('msg="Listening on"', START_LIMIT_S))
        assert found
        server.line("Server is ready", START_LIMIT_S)
        yield Server(int(found[1]))


def dashboard_queries() -> set[str]:
    asked = {target["expr"] for panel in panels() for target in panel.get("targets", [])}
    return asked | {each["expr"] for each in dashboard()["annotations"]["list"] if "expr" in each}


def check_variables(server: Server) -> None:
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            query = variable["query"]["query"].replace("$job", ".*")
            label = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
            assert label
            assert server.ask(f"label/{label[2]}/values", **{"match[]": label[1]})


def check_rules(server: Server) -> None:
    """Every rule is evaluated without an error, asks for series that are there, and is quiet as all is well."""
    rules = until(lambda: healthy(alert_rules(server)), "all rules were evaluated without an error")
    for rule in rules:
        for selector in re.findall(r"\b(?:mt4pump_\w+|up)(?:\{[^}]*\})?", rule["query"]):
            server.answers(selector)
    # Readers miss quotes on a busy machine, and the archive what a new run published before it was connected again.
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    without_nats = "MT4PumpConsumerUnhealthy"
    assert firing <= {"MT4PumpQuotesLost", "MT4PumpSlowReaders", "MT4PumpArchiveGaps", without_nats}


def healthy(rules: Result) -> Result:
    return rules if all(rule["health"] == "ok" for rule in rules) else []


def alert_rules(server: Server) -> Result:
    found: Result = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
    assert len(found) > 20
    return found


@pytest.mark.timeout(300)
def test_every_query_of_dashboard_and_alerts_has_an_answer_and_a_restart_of_the_daemon_is_a_counter_reset(
    tmp_path: Path,
) -> None:
    tool("prometheus")
    with (
        daemon(tmp_path, rate=1000) as source,
        exporter(tmp_path, source, "--symbols", "*") as run,
        consumers(tmp_path, source) as ports,
        prometheus(tmp_path, {**ports, 9564: run.port}) as server,
    ):
        quotes = 'mt4pump_events_total{kind="quote"}'
        server.answers(f"{quotes} > 3000")
        source.program.process.kill()
        source.program.end()
        until(lambda: value(run.samples(), "mt4pump_up") == 0, "the exporter says that the daemon is down")
        server.answers("mt4pump_up == 0")
        assert server.query(quotes) == []
        with daemon(tmp_path, source.endpoint, source.query_endpoint, rate=50):
            server.answers(f"resets({quotes}[1m]) == 1")
            assert all(float(each["value"][1]) >= 0 for each in server.query(f"rate({quotes}[1m])"))
            for expression in sorted(dashboard_queries()):
                server.answers(expression)
            check_variables(server)
            check_rules(server)
