"""The container engine of this machine, whether it can run deploy/container/compose.yml, and how it gets the images.

Our image is the one that ``MT4PUMP_IMAGE`` names. Without it the tests build one under a name of their own and remove
it: an image that stays is one of an older program at the next run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "container"
COMPOSE, CONTAINERFILE = FOLDER / "compose.yml", FOLDER / "Containerfile"
PROGRAMS = (("docker", ("docker", "compose")), ("podman", ("podman-compose",)), ("docker", ("docker-compose",)))
IMAGES = {
    "MT4PUMP_IMAGE": "",
    **dict(re.findall(r"image: \$\{(\w+):-(\S+/\S+)\}", COMPOSE.read_text(encoding="utf-8"))),
}
"""The images by the variable that names another one; "": the tests build it."""
LIMIT_S = 60.0
BUILD_LIMIT_S = 840.0
"""For a pull or a build."""
IMAGE_LIMIT_S = 3 * BUILD_LIMIT_S
"""For our image: the pull of its base, the build of the wheel, and its own."""


class ContainerEngine(NamedTuple):
    """The engine and the compose program; ``missing`` is why they cannot run the file, empty: they can."""

    engine: str
    compose: tuple[str, ...]
    missing: str


def fault_of(*words: str, limit_s: float = LIMIT_S) -> str:
    """Run a command; return why it did not end well, in its own words, empty: it did."""
    if shutil.which(words[0]) is None:
        return "is not installed"
    try:
        ended = subprocess.run(words, capture_output=True, check=False, timeout=limit_s, text=True, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if ended.returncode == 0:
        return ""
    return next(iter(ended.stderr.strip().splitlines()[-1:]), f"ended with exit code {ended.returncode}")


def works(*words: str) -> bool:
    """Return whether the command is there and ends well within `LIMIT_S`."""
    return not fault_of(*words)


def running_engine() -> tuple[str, str]:
    """Return the first engine that runs, or nothing and why none does."""
    faults = []
    for engine in dict.fromkeys(engine for engine, _ in PROGRAMS):
        if not (fault := fault_of(engine, "info")):
            return engine, ""
        faults.append(f"{engine}: {fault}")
    return "", f"no container engine runs here ({'; '.join(faults)})"


def container_engine() -> ContainerEngine:
    """Return the first engine that runs with its compose program, and what is missing; no registry is asked."""
    faults = []
    for engine, compose in PROGRAMS:
        fault = fault_of(engine, "info") or fault_of(*compose, "version")
        if not fault:
            missing = missing_images(engine)
            lacks = [f"images that are not on this machine: {', '.join(missing)}"] if missing else []
            if not os.environ.get("MT4PUMP_IMAGE"):
                lacks.append("MT4PUMP_IMAGE names no image of mt4pump")
            return ContainerEngine(engine, compose, "; ".join(lacks))
        faults.append(f"{' '.join(compose)}: {fault}")
    return ContainerEngine("", (), f"no container engine runs here with a compose program ({'; '.join(faults)})")


def missing_images(engine: str) -> list[str]:
    """Return the images of the compose file that are not on this machine, but for one that the tests build."""
    names = [os.environ.get(variable) or image for variable, image in IMAGES.items()]
    return [name for name in names if name and not works(engine, "image", "inspect", name)]


def pull(engine: str, image: str) -> str:
    """Pull an image; return why that cannot be, empty: it is there."""
    fault = fault_of(engine, "pull", image, limit_s=BUILD_LIMIT_S)
    return fault and f"the image {image} cannot be pulled: {fault}"


@contextmanager
def built_image(engine: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Build our image for this process alone; remove it at the end. Yield its name and why it cannot be, empty: it is.

    ``folder`` is empty and takes what the image is built of.
    """
    image = f"mt4pump-test:{os.getpid()}"
    fault = build(engine, image, folder)
    try:
        yield image, fault
    finally:
        if not fault:
            subprocess.run([engine, "rmi", image], check=True, timeout=BUILD_LIMIT_S)


def build(engine: str, image: str, folder: Path) -> str:
    """Build our image; return why its base cannot be had. Raises CalledProcessError for a build that fails."""
    named = re.search(r"^ARG BASE=(\S+)", CONTAINERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    base = os.environ.get("MT4PUMP_BASE_IMAGE") or (named[1] if named else "")
    if not works(engine, "image", "inspect", base) and (fault := fault_of(engine, "pull", base, limit_s=BUILD_LIMIT_S)):
        return f"the base image {base} cannot be pulled: {fault}"
    fill_context(folder)
    command = [engine, "build", "-q", "--build-arg", f"BASE={base}", "-f", str(CONTAINERFILE), "-t", image, str(folder)]
    subprocess.run(command, check=True, timeout=BUILD_LIMIT_S)
    return ""


def fill_context(folder: Path) -> None:
    """Put what the Containerfile copies into ``folder``: the wheel, which is built, and the hashes of what it needs."""
    (folder / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "hashes.txt", folder / "deploy")
    wheel = [sys.executable, "-m", "build", "--wheel", "-o", str(folder / "dist"), str(ROOT)]
    subprocess.run(wheel, check=True, timeout=BUILD_LIMIT_S)
