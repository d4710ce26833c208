"""What is wrong with a DLL on Windows is reported with what to do, and the exit code is 3."""

from __future__ import annotations

from pathlib import Path

from tests.vendor.compile import WINDOWS_64, compile_source
from tests.vendor.listener import session_flags
from tests.wine.machine import Machine

EXIT_START = 3


def refused(windows: Machine, library: str, folder: Path) -> str:
    """Return what the daemon says about ``library``, which it must refuse."""
    done = windows.run(windows.python, "-m", "mt4pump", *session_flags(library, windows.windows(folder)), cwd=folder)
    assert done.returncode == EXIT_START, done.stdout
    assert "cannot start: " in done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout.replace("\\\\", "\\")  # JSON's


def test_missing_file_is_named_with_the_setting(windows: Machine, tmp_path: Path) -> None:
    path = windows.windows(tmp_path / "no such.dll")
    text = refused(windows, path, tmp_path)
    assert path in text
    assert "dll_path" in text


def test_32_bit_dll_names_both_sizes_and_the_way_out(windows: Machine, library_32: Path, tmp_path: Path) -> None:
    text = refused(windows, windows.windows(library_32), tmp_path)
    assert "is 32-bit, this Python is 64-bit" in text
    assert "use mtmanapi64.dll, or run mt4pump with a 32-bit Python" in text


def test_junk_is_called_no_library(windows: Machine, tmp_path: Path) -> None:
    junk = tmp_path / "mtmanapi64.dll"
    junk.write_bytes(b"junk" * 5000)
    assert "not a library at all" in refused(windows, windows.windows(junk), tmp_path)


def test_dll_whose_own_dependency_is_missing_is_said_to_need_another(windows: Machine, tmp_path: Path) -> None:
    needed = compile_source("__declspec(dllexport) int f(void) { return 1; }", tmp_path / "needed.dll", WINDOWS_64)
    source = "__declspec(dllimport) int f(void); __declspec(dllexport) int g(void) { return f(); }"
    library = compile_source(source, tmp_path / "mtmanapi64.dll", WINDOWS_64, str(tmp_path / "needed.lib"))
    needed.unlink()
    assert "a library that it needs, cannot be loaded" in refused(windows, windows.windows(library), tmp_path)


def test_dll_that_is_not_the_manager_api_names_the_missing_export(windows: Machine, tmp_path: Path) -> None:
    source = "__declspec(dllexport) int MtManVersion(void) { return 1; }"
    library = compile_source(source, tmp_path / "other.dll", WINDOWS_64)
    text = refused(windows, windows.windows(library), tmp_path)
    assert "has no export MtManCreate: it is not the Manager API" in text
