"""deploy/container/compose.yml is run as a whole where a container engine and a compose program are.

``pytest -m index tests/deploy/test_compose.py``. Our image is built and removed at the end, unless ``MT4PUMP_IMAGE``
names one; ``MT4PUMP_BASE_IMAGE`` names another base. The other images that are not on this machine are pulled;
``NATS_IMAGE`` and ``PROMETHEUS_IMAGE`` name others. ``python -m tests`` runs it where ``MT4PUMP_IMAGE`` is set and all
images are there. Without an engine tests/deploy/test_container.py checks the file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from tests.deploy.container_engine import (
    BUILD_LIMIT_S,
    COMPOSE,
    IMAGE_LIMIT_S,
    IMAGES,
    ContainerEngine,
    built_image,
    container_engine,
    missing_images,
    pull,
    works,
)

ROOT = Path(__file__).resolve().parents[2]
CHECKED = ("daemon", "gateway", "metrics", "nats-bridge")
LIMIT_S, STEP_S = 240.0, 1.0
IMAGES_LIMIT_S = len(IMAGES) * BUILD_LIMIT_S + IMAGE_LIMIT_S
"""For the pulls and the build, which count for the first test."""

pytestmark = [pytest.mark.index, pytest.mark.timeout(IMAGES_LIMIT_S + 4 * LIMIT_S)]


@dataclass(frozen=True)
class Composed:
    """The services as they run; ``token`` lets a client of the gateway in."""

    engine: str
    page_port: int
    prometheus_port: int
    token: str

    def get(self, port: int, path: str) -> str:
        """Return what a published port answers."""
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=LIMIT_S) as answer:
            return str(answer.read().decode())

    def metric(self, query: str) -> float:
        """Return what Prometheus knows; 0 for nothing."""
        found = json.loads(self.get(self.prometheus_port, f"/api/v1/query?query={query}"))["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until ``holds()``; what cannot be reached yet holds not."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        try:
            if holds():
                return
        except (OSError, subprocess.CalledProcessError):
            pass
        time.sleep(STEP_S)
    pytest.fail(f"not within {LIMIT_S:.0f} s: {what}")


def run(*words: str, environ: dict[str, str] | None = None) -> str:
    command = [shutil.which(words[0]) or words[0], *words[1:]]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S, env=environ)
    return ended.stdout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def found() -> ContainerEngine:
    """Return the engine; the images that are not ours are on this machine."""
    found = container_engine()
    if not found.engine:
        pytest.skip(found.missing)
    for image in missing_images(found.engine):
        if fault := pull(found.engine, image):
            pytest.skip(fault)
    return found


@pytest.fixture(scope="module")
def image(found: ContainerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return our image: the one of ``MT4PUMP_IMAGE``, else one that is built for these tests."""
    if named := os.environ.get("MT4PUMP_IMAGE"):
        yield named
        return
    with built_image(found.engine, tmp_path_factory.mktemp("build")) as (built, fault):
        if fault:
            pytest.skip(fault)
        yield built


@pytest.fixture(scope="module")
def composed(found: ContainerEngine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    engine, compose, _ = found
    folder = tmp_path_factory.mktemp("deploy")
    for name in ("container", "prometheus", "examples"):
        shutil.copytree(ROOT / "deploy" / name, folder / name)
    new_token = [engine, "run", "--rm", image, "python3", "-m", "mt4pump_consumers.gateway.new_token", "ME", "*"]
    made = subprocess.run(new_token, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    (folder / "container" / "tokens.toml").write_text(made.stdout, encoding="utf-8")
    (folder / "container" / "tokens.toml").chmod(0o644)
    ports = free_port(), free_port()
    variables = {"PAGE_PORT": str(ports[0]), "PROMETHEUS_PORT": str(ports[1]), "MT4PUMP_IMAGE": image}
    variables["MT4PUMP_TOKENS"] = "./tokens.toml"
    name = f"mt4pump-test-{os.getpid()}"
    project = [*compose, "-p", name, "-f", str(folder / "container" / "compose.yml")]
    environ = {**os.environ, **variables}
    try:
        run(*project, "up", "-d", environ=environ)
        yield Composed(engine, *ports, made.stderr.strip().rpartition(" ")[2])
    finally:
        run(*project, "down", "-v", environ=environ)
        works(engine, "network", "rm", f"{name}_default")  # podman-compose leaves it


def test_the_gateway_serves_its_page_and_quotes_for_a_token_that_was_made_as_the_file_says(composed: Composed) -> None:
    until(lambda: json.loads(composed.get(composed.page_port, "/health"))["feed"] == "live", "the feed is live")
    assert "<html" in composed.get(composed.page_port, "/")
    with connect(f"ws://127.0.0.1:{composed.page_port}/ws") as link:
        for request in ({"action": "auth", "token": composed.token}, {"action": "subscribe", "symbols": ["*"]}):
            link.send(json.dumps(request))
        assert json.loads(link.recv(LIMIT_S))["status"] == "success"
        while json.loads(link.recv(LIMIT_S))["type"] != "quote":
            pass


def test_prometheus_scrapes_the_exporter_and_has_the_rules(composed: Composed) -> None:
    until(lambda: composed.metric("mt4pump_up") == 1.0, "mt4pump_up is 1")
    until(lambda: composed.metric("sum(mt4pump_events_total)") > 0, "events are counted")
    groups = json.loads(composed.get(composed.prometheus_port, "/api/v1/rules"))["data"]["groups"]
    assert "MT4PumpDown" in {rule["name"] for group in groups for rule in group["rules"]}


@pytest.mark.parametrize("service", CHECKED)
def test_the_health_check_of_each_service_succeeds(service: str, composed: Composed) -> None:
    (check,) = re.findall(
        rf"^  {service}:\n(?:    .*\n)*?.*test: \[CMD, ([^\]]+)\]", COMPOSE.read_text(encoding="utf-8"), re.MULTILINE
    )
    (name,) = [
        found
        for found in run(composed.engine, "ps", "--format", "{{.Names}}").split()
        if re.fullmatch(rf"mt4pump-test-{os.getpid()}[-_]{service}[-_]1", found)
    ]
    words = [word.strip(' "') for word in check.split(",")]
    until(lambda: run(composed.engine, "exec", name, *words) != "", f"{service} is healthy")
