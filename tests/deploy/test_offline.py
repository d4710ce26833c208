"""Offline installation on Windows: the wheels of hashes.txt are enough. Needs a package index: pytest -m index."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[2]
HASHES = ROOT / "deploy" / "hashes.txt"
WINDOWS = {
    "sys_platform": "win32",
    "platform_machine": "AMD64",
    "platform_system": "Windows",
    "os_name": "nt",
    "python_version": "3.13",
}
LIMIT_S = 600


def for_windows() -> str:
    """Return hashes.txt as pip would read it on Windows: pip on Linux decides the markers by Linux."""
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", HASHES.read_text(encoding="utf-8"), flags=re.MULTILINE))
    kept = []
    for entry in entries:
        head, _, hashes = entry.partition("\\\n")
        pin, _, marker = head.partition(";")
        if not marker or Marker(marker.strip()).evaluate(WINDOWS):
            kept.append(f"{pin.strip()} \\\n{hashes}")
    return "\n".join(kept)


@pytest.mark.index
@pytest.mark.timeout(2 * LIMIT_S + 60)
def test_downloaded_wheels_install_without_an_index(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_text(for_windows(), encoding="utf-8")
    place = ["--platform", "win_amd64", "--python-version", "3.13", "--only-binary", ":all:", "--no-deps"]
    locked = ["--require-hashes", "-r", str(tmp_path / "windows.txt")]
    pip, wheels, target = [sys.executable, "-m", "pip"], str(tmp_path / "wheels"), str(tmp_path / "target")
    subprocess.run([*pip, "download", *place, *locked, "-d", wheels], check=True, timeout=LIMIT_S)
    offline = ["--isolated", "install", "--no-index", "--find-links", wheels, "--target", target]
    subprocess.run([*pip, *offline, *place, *locked], check=True, timeout=LIMIT_S)
    assert list(Path(target).glob("zmq/**/*.pyd"))
    assert len(list(Path(wheels).glob("*.whl"))) == for_windows().count("==")
