"""deploy/container: its files name what exists; where an engine or buildah and a base image are, the image is built."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.metrics.settings import MetricsSettings
from mt4pump_consumers.nats_bridge.settings import NatsSettings

from mt4pump.process.settings import ProgramSettings, read
from mt4pump.settings import Settings
from tests.consumers.metrics.metrics_run import promtool
from tests.deploy.container_engine import (
    BUILD_LIMIT_S,
    CONTAINERFILE,
    FOLDER,
    IMAGE_LIMIT_S,
    ROOT,
    built_image,
    fill_context,
    running_engine,
)
from tests.deploy.container_engine import COMPOSE as COMPOSE_FILE

COMPOSE = COMPOSE_FILE.read_text(encoding="utf-8")
PROGRAMS: dict[str, type[ProgramSettings]] = {
    "daemon": Settings,
    "gateway": GatewaySettings,
    "metrics": MetricsSettings,
    "nats-bridge": NatsSettings,
}


def services() -> dict[str, str]:
    """Return the text of each service."""
    text = re.split(r"^\w+:\n", COMPOSE.split("\nservices:\n")[1], flags=re.MULTILINE)[0]
    parts = re.split(r"^  ([\w-]+):\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_services_are_the_linux_side() -> None:
    assert set(services()) == {*PROGRAMS, "nats", "prometheus"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_takes_its_variables(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = dict(re.findall(r'^      (MT4PUMP_\w+): "?([^"\n]+)"?$', services()[name], flags=re.MULTILINE))
    settings = read(PROGRAMS[name], environ=found).settings
    assert len(settings.model_fields_set) == len(found) >= 4


def test_every_program_of_ours_is_restricted_checked_and_has_a_bounded_log() -> None:
    for name in PROGRAMS:
        assert "<<: *program" in services()[name]
        assert "healthcheck:" in services()[name]
    assert "read_only: true" in COMPOSE
    assert "max-size: 10m" in COMPOSE
    published = re.findall(r"ports: \[\"([^\"]+)\"\]", COMPOSE)
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_every_service_is_started_again_after_a_reboot() -> None:
    assert re.findall(r"^ +restart: (.+)$", COMPOSE, flags=re.MULTILINE) == ["unless-stopped"] * 3
    assert [name for name in services() if "<<: *program" not in services()[name]] == ["nats", "prometheus"]


@pytest.mark.skipif(sys.platform == "win32", reason="the container is a Linux one")
def test_tokens_that_a_group_may_write_are_copied_for_the_gateway_alone(tmp_path: Path) -> None:
    mounted, copy = tmp_path / "mounted.toml", tmp_path / "tokens.toml"
    shutil.copy(ROOT / "deploy" / "examples" / "tokens.toml", mounted)
    mounted.chmod(0o664)
    found = re.search(r"command: \[sh, -c, (install .+) && exec mt4pump-gateway\]", services()["gateway"])
    assert found
    assert "/tmp/tokens.toml\n" in services()["gateway"]  # noqa: S108
    options, source, folder = found[1].rsplit(" ", 2)
    assert (source, folder) == ("/etc/mt4pump/tokens.toml", "/tmp/")  # noqa: S108
    for _ in range(2):  # a restart finds the copy of the start before
        subprocess.run([*options.split(), mounted, copy], check=True)
    assert (copy.read_bytes(), copy.stat().st_mode & 0o777) == (mounted.read_bytes(), 0o400)


def test_every_file_that_is_mounted_or_copied_is_there() -> None:
    mounted = re.findall(r"(\.\.?/[\w./-]+)(?:\})?:/", COMPOSE)
    assert len(mounted) == 3
    assert [path for path in mounted if not (FOLDER / path).exists()] == []
    assert (ROOT / "deploy" / "hashes.txt").exists()


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "deploy" / "prometheus" / "mt4pump.rules.yml", tmp_path)
    code, said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert code == 0, said


PROGRAM_NAMES = tuple(f"mt4pump{name}" for name in ("", "-gateway", "-metrics", "-monitor", "-nats", "-archive"))


@pytest.mark.index
@pytest.mark.timeout(IMAGE_LIMIT_S + 60)
def test_the_engine_builds_the_image_and_it_has_every_program(tmp_path: Path) -> None:
    engine, missing = running_engine()
    if missing:
        pytest.skip(missing)
    with built_image(engine, tmp_path) as (image, fault):
        if fault:
            pytest.skip(fault)
        for name in PROGRAM_NAMES:
            command = [engine, "run", "--rm", image, name, "--help"]
            ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_LIMIT_S)
            assert name in ended.stdout


@pytest.mark.index
@pytest.mark.timeout(IMAGE_LIMIT_S + 60)
def test_buildah_builds_the_image_and_it_has_every_program(tmp_path: Path) -> None:
    """``MT4PUMP_BASE_IMAGE`` names an image with Python 3.11 or later, ``BUILDAH_FLAGS`` what reaches the index."""
    base, tool = os.environ.get("MT4PUMP_BASE_IMAGE"), shutil.which("buildah")
    if not (base and tool):
        pytest.skip("needs buildah and MT4PUMP_BASE_IMAGE")
    globals_, flags = os.environ.get("BUILDAH_GLOBALS", "").split(), os.environ.get("BUILDAH_FLAGS", "").split()

    def run(*words: str) -> str:
        command = [tool, *globals_, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_LIMIT_S).stdout

    fill_context(tmp_path)
    image = run("bud", "-q", *flags, "--build-arg", f"BASE={base}", "-f", str(CONTAINERFILE), str(tmp_path)).strip()
    container = run("from", image).strip()
    try:
        for name in PROGRAM_NAMES:
            assert name in run("run", "--isolation", "chroot", container, name, "--help")
    finally:
        run("rm", container)
        run("rmi", image)
