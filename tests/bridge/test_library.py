"""Finding and loading the library; every way in which it can be the wrong file says so."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from mt4pump.bridge.interface import WORD_BITS
from mt4pump.bridge.library import FILE_NAMES, Library, find, load, word_bits
from mt4pump.errors import LibraryError, StartError
from tests.vendor.compile import compile_source
from tests.vendor.control import Vendor

OTHER_BITS = 96 - WORD_BITS
MACHINES = {32: 0x014C, 64: 0x8664}
OWN_NAME = FILE_NAMES[WORD_BITS]
SUFFIX = ".dll" if sys.platform == "win32" else ".so"


def elf(bits: int) -> bytes:
    """Return the beginning of an ELF file."""
    return b"\x7fELF" + bytes([bits // 32]) + bytes(59)


def pe(machine: int, offset: int = 0x80) -> bytes:
    """Return the beginning of a PE file."""
    head = bytearray(b"MZ" + bytes(offset + 62))
    struct.pack_into("<I", head, 0x3C, offset)
    head[offset : offset + 4] = b"PE\0\0"
    struct.pack_into("<H", head, offset + 4, machine)
    return bytes(head)


def written(folder: Path, content: bytes, name: str = OWN_NAME) -> Path:
    """Return a file with ``content``."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / name
    path.write_bytes(content)
    return path


class TestFind:
    """Where the library is looked for."""

    def test_given_path_is_taken_and_made_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written(tmp_path, b"", "any name.dll")
        monkeypatch.chdir(tmp_path)
        assert find(Path("any name.dll")) == tmp_path.resolve() / "any name.dll"

    @pytest.mark.parametrize("name", ["missing.dll", "."])
    def test_given_path_that_is_no_file_is_named_with_the_setting(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(LibraryError, match=r"no such file.*dll_path") as failure:
            find(tmp_path / name)
        assert str((tmp_path / name).resolve()) in str(failure.value)

    @pytest.mark.parametrize("relative", ["", ".", "here", "../here"])
    def test_current_folder_comes_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: str) -> None:
        here, there = written(tmp_path / "here", b""), written(tmp_path / "there", b"")
        monkeypatch.setenv("PATH", os.pathsep.join((relative, str(there.parent))))
        monkeypatch.chdir(here.parent)
        assert find(None) == there.resolve()
        there.unlink()
        assert find(None) == here.resolve()

    def test_nothing_found_names_the_file_the_places_and_the_ways_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(LibraryError) as failure:
            find(None)
        for part in (OWN_NAME, str(tmp_path.resolve()), f"{WORD_BITS}-bit", "dll_path", "--source simulator"):
            assert part in str(failure.value)


@pytest.mark.skipif(os.name != "posix", reason="on Windows rights are no modes")
class TestOthers:
    """A library that other users may put in place of ours."""

    @pytest.mark.parametrize("opened", ["file", "folder", "folder above"])
    def test_a_library_that_others_may_change_or_replace_is_not_loaded(self, tmp_path: Path, opened: str) -> None:
        path = written(tmp_path / "above" / "own", b"not even a library")
        {"file": path, "folder": path.parent, "folder above": path.parent.parent}[opened].chmod(0o777)
        with pytest.raises(LibraryError, match=r"is not loaded: every user.*chmod o-w.*dll_path"):
            load(path)

    def test_a_folder_in_which_nobody_may_replace_what_is_anothers_will_do(self, tmp_path: Path) -> None:
        path = written(tmp_path / "own", b"not even a library")
        path.parent.chmod(0o1777)
        with pytest.raises(LibraryError, match="not a library at all"):
            load(path)


class TestWordBits:
    """The word size is read from the file's header, before anything is loaded."""

    @pytest.mark.parametrize(
        ("content", "bits"),
        [
            (elf(32), 32),
            (elf(64), 64),
            (pe(0x014C), 32),
            (pe(0x8664), 64),
            (b"\xcf\xfa\xed\xfe" + bytes(28), 64),
            (b"", None),
            (b"MZ", None),
            (b"\x7fELF", None),
            (b"#!/bin/sh\n", None),
            (pe(0x9999), None),
            (pe(0x8664)[:0x82], None),
        ],
    )
    def test_header_gives_32_64_or_nothing(self, tmp_path: Path, content: bytes, bits: int | None) -> None:
        assert word_bits(written(tmp_path, content)) == bits

    def test_python_itself_has_its_own_word_size(self) -> None:
        assert word_bits(Path(sys.executable).resolve()) == WORD_BITS


class TestLoad:
    """What can be wrong with a file, each in words that say what to do."""

    @pytest.mark.parametrize("content", [pe(MACHINES[OTHER_BITS]), elf(OTHER_BITS)], ids=["pe", "elf"])
    def test_wrong_word_size_names_the_file_both_sizes_and_the_right_file(self, tmp_path: Path, content: bytes) -> None:
        path = written(tmp_path, content, FILE_NAMES[OTHER_BITS])
        with pytest.raises(LibraryError) as failure:
            load(path)
        text = str(failure.value)
        for part in (f"{path} is {OTHER_BITS}-bit", f"this Python is {WORD_BITS}-bit", sys.executable, OWN_NAME):
            assert part in text

    @pytest.mark.parametrize("content", [b"", b"junk" * 2000, b"MZ" + bytes(4000)], ids=["empty", "junk", "no header"])
    def test_junk_is_called_no_library(self, tmp_path: Path, content: bytes) -> None:
        path = written(tmp_path, content)
        with pytest.raises(LibraryError, match=f"{re.escape(str(path))}: not a library at all: "):
            load(path)

    def test_broken_library_says_that_it_or_what_it_needs_cannot_be_loaded(self, tmp_path: Path) -> None:
        path = written(tmp_path, elf(WORD_BITS))
        with pytest.raises(LibraryError) as failure:
            load(path)
        assert "a library that it needs, cannot be loaded" in str(failure.value)
        assert f"{path}: or " not in str(failure.value), "half a sentence"
        assert isinstance(failure.value.__cause__, OSError)

    def test_file_that_went_away_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(LibraryError, match=re.escape(str(tmp_path / OWN_NAME)) + " cannot be read"):
            load(tmp_path / OWN_NAME)

    @pytest.mark.parametrize(("present", "missing"), [("unrelated", "MtManVersion"), ("MtManVersion", "MtManCreate")])
    @pytest.mark.not_under_wine("compiles: the compiler runs on the host")
    def test_missing_export_is_named(self, tmp_path: Path, present: str, missing: str) -> None:
        source = f"""
            #if defined(_WIN32)
            __declspec(dllexport)
            #endif
            int {present}(void) {{ return 0; }}
            """
        path = compile_source(source, tmp_path / f"partial{SUFFIX}")
        with pytest.raises(LibraryError, match=f"has no export {missing}.*not the Manager API"):
            load(path)

    def test_every_refusal_is_a_start_error(self, tmp_path: Path) -> None:
        with pytest.raises(StartError):
            load(tmp_path / "none.dll")

    def test_a_library_is_loaded_once_and_knows_its_version(self, library: Library, vendor: Vendor) -> None:
        assert load(vendor.path) is library
        assert library.version == (400 << 16) | 1403
        assert library.build == 1403

    def test_failed_load_can_be_tried_again(self, tmp_path: Path, vendor: Vendor) -> None:
        path = written(tmp_path, b"junk")
        with pytest.raises(LibraryError):
            load(path)
        path.unlink()
        path.write_bytes(vendor.path.read_bytes())
        assert load(path).build == 1403

    def test_importing_the_bridge_loads_nothing(self) -> None:
        code = "import sys, mt4pump.bridge.dll_manager as m; from mt4pump.bridge.library import load; "
        code += "assert load.cache_info().currsize == 0"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestCreate:
    """Making interfaces."""

    def test_create_passes_the_library_s_own_version_and_the_folder(
        self, library: Library, vendor: Vendor, tmp_path: Path
    ) -> None:
        interface = library.create(tmp_path / "new" / "folder")
        given = vendor.given(0)
        assert given
        assert Path(given.directory.decode()) == tmp_path / "new" / "folder"
        assert (tmp_path / "new" / "folder").is_dir()
        assert vendor.count("last_create_version") == library.version
        interface.call("Release")

    @pytest.mark.parametrize("lie", [False, True], ids=["returns 0", "claims success"])
    def test_no_interface_is_an_error_whatever_the_number_returned(
        self,
        library: Library,
        vendor: Vendor,
        tmp_path: Path,
        lie: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        vendor.break_create(claim_success=lie)
        with pytest.raises(
            LibraryError, match=rf"MtManCreate\({library.version}\) gave no interface \(returned {lie:d}"
        ):
            library.create(tmp_path)

    def test_working_folder_outside_the_code_page_costs_no_interface_and_names_the_cure(
        self, library: Library, vendor: Vendor, tmp_path: Path
    ) -> None:
        with pytest.raises(LibraryError, match=r"ANSI code page only.*set data_dir to a folder with plain letters"):
            library.create(tmp_path / "\ud800")  # half a letter: no code page of any system has it
        assert vendor.count("creates") == 0

    def test_working_folder_that_cannot_be_made_is_named(
        self, library: Library, vendor: Vendor, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(LibraryError, match=r"working folder .*file.below"):
            library.create(tmp_path / "file" / "below")
        assert vendor.count("creates") == 0
