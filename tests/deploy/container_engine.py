"""The container engine of this machine, and whether it can run deploy/container/compose.yml without any registry."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "container" / "compose.yml"
PROGRAMS = (("docker", ("docker", "compose")), ("podman", ("podman-compose",)), ("docker", ("docker-compose",)))
IMAGES = {
    "MT4PUMP_IMAGE": "mt4pump",
    **dict(re.findall(r"image: \$\{(\w+):-(\S+/\S+)\}", COMPOSE.read_text(encoding="utf-8"))),
}
"""The images by the variable that names another one."""
LIMIT_S = 60.0


class ContainerEngine(NamedTuple):
    """The engine and the compose program; ``missing`` is why they cannot run the file, empty: they can."""

    engine: str
    compose: tuple[str, ...]
    missing: str


def works(*words: str) -> bool:
    """Return whether the command is there and ends well within `LIMIT_S`."""
    if shutil.which(words[0]) is None:
        return False
    try:
        return subprocess.run(words, capture_output=True, check=False, timeout=LIMIT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def container_engine() -> ContainerEngine:
    """Return the first engine that runs with its compose program, and what is missing."""
    for engine, compose in PROGRAMS:
        if works(engine, "info") and works(*compose, "version"):
            names = [os.environ.get(variable, image) for variable, image in IMAGES.items()]
            missing = [name for name in names if not works(engine, "image", "inspect", name)]
            text = f"images that are not on this machine: {', '.join(missing)}" if missing else ""
            return ContainerEngine(engine, compose, text)
    return ContainerEngine("", (), "no container engine runs here, or there is no compose program for it")
