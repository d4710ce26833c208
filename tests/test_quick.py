"""The quick checks leave out only what exists, and still hold tests of every package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quick import FILES, FOLDERS, TESTS, is_slow

ROOT = TESTS.parent
PACKAGES = sorted(path.name for path in (ROOT / "mt4pump").iterdir() if (path / "__init__.py").is_file())
CONSUMERS = sorted(
    path.name for path in (ROOT / "consumers" / "mt4pump_consumers").iterdir() if (path / "__init__.py").is_file()
)


def test_every_name_is_a_file_or_a_folder_of_tests() -> None:
    assert [name for name in FILES if not (TESTS / name).is_file()] == []
    assert [name for name in FOLDERS if not (TESTS / name).is_dir()] == []


def quick_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("test_*.py") if not is_slow(path)]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_of_the_daemon_has_quick_tests(package: str) -> None:
    assert quick_files(TESTS / package)


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_every_consumer_has_quick_tests(consumer: str) -> None:
    assert quick_files(TESTS / "consumers" / consumer)
