"""Offline installation on Windows, 64-bit and 32-bit: the wheels of the file with hashes are enough.

Needs a package index: ``pytest -m index``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = {"hashes.txt": "win_amd64", "hashes-win32.txt": "win32"}
"""The files, and pip's name of the system that each is for."""
WINDOWS = {
    "sys_platform": "win32",
    "platform_machine": "AMD64",
    "platform_system": "Windows",
    "os_name": "nt",
    "python_version": "3.13",
}
LIMIT_S = 600


def for_windows(file: str) -> str:
    """Return a file with hashes as pip would read it on Windows: pip on Linux decides the markers by Linux."""
    text = (ROOT / "deploy" / file).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    kept = []
    for entry in entries:
        head, _, hashes = entry.partition("\\\n")
        pin, _, marker = head.partition(";")
        if not marker or Marker(marker.strip()).evaluate(WINDOWS):
            kept.append(f"{pin.strip()} \\\n{hashes}")
    return "\n".join(kept)


@pytest.mark.index
@pytest.mark.timeout(2 * LIMIT_S + 60)
@pytest.mark.parametrize("file", PLATFORMS)
def test_downloaded_wheels_install_without_an_index(tmp_path: Path, file: str) -> None:
    wanted = for_windows(file)
    (tmp_path / "windows.txt").write_text(wanted, encoding="utf-8")
    python = ["--python-version", WINDOWS["python_version"], "--only-binary", ":all:", "--no-deps"]
    place = ["--platform", PLATFORMS[file], *python]
    locked = ["--require-hashes", "-r", str(tmp_path / "windows.txt")]
    pip, wheels, target = [sys.executable, "-m", "pip", "-q"], str(tmp_path / "wheels"), str(tmp_path / "target")
    subprocess.run([*pip, "download", *place, *locked, "-d", wheels], check=True, timeout=LIMIT_S)
    offline = ["--isolated", "install", "--no-index", "--find-links", wheels, "--target", target]
    subprocess.run([*pip, *offline, *place, *locked], check=True, timeout=LIMIT_S)
    assert list(Path(target).glob("zmq/**/*.pyd"))
    assert len(list(Path(wheels).glob("*.whl"))) == wanted.count("==")
