"""The fake compiles for both word sizes of Windows, exports undecorated names, and says why when it cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.vendor.compile import FILE_NAMES, WINDOWS_32, WINDOWS_64, CompileError, compile_fake
from tests.vendor.control import PROTOTYPES
from tests.vendor.pe import pe_exports, pe_machine


@pytest.mark.parametrize(("target", "machine"), [(WINDOWS_64, 0x8664), (WINDOWS_32, 0x14C)])
def test_windows_library_exports_the_two_names_and_the_controls_undecorated(
    tmp_path: Path, target: str, machine: int
) -> None:
    library = compile_fake(tmp_path, target)
    assert library.name == FILE_NAMES[target]
    assert pe_machine(library) == machine
    assert pe_exports(library) == {"MtManVersion", "MtManCreate", *(f"fake_{name}" for name in PROTOTYPES)}


def test_failed_compilation_shows_the_command_and_the_compiler_s_words(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"ziglang cc .*-target no-such-target") as failure:
        compile_fake(tmp_path, "no-such-target")
    assert "exit code 1" in str(failure.value)


def test_missing_compiler_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'No module named ziglang' >&2\nexit 1\n")
    bare.chmod(0o755)
    if sys.platform == "win32":
        pytest.skip("needs a shell script as interpreter")
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(CompileError, match="pip install ziglang"):
        compile_fake(tmp_path)
