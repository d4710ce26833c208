"""What is quoted of the DLL's own log: faults of this session alone, bounded, harmless, without secrets.

Private access: the read of the file, because the superuser may read a file whatever its mode.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mt4pump.bridge.dll_log import LINE_MAX_CHARS, TAIL_BYTES, DllLog, too_deep

STOPPED = "255\t09:00:01\tone:443\tpumping mode stopped (Network problem)"
QUOTED = "255 09:00:01 one:443 pumping mode stopped (Network problem)"


def write(folder: Path, text: str | bytes, day: str = "20261128") -> None:
    """Append to the log of a day."""
    (folder / "logs").mkdir(exist_ok=True)
    with (folder / "logs" / f"{day}.log").open("ab") as file:
        file.write(text if isinstance(text, bytes) else f"{text}\r\n".encode())


def quoted(folder: Path, *lines: str | bytes) -> str:
    """Return what is quoted after these lines were written."""
    log = DllLog(folder, "cp1252")
    for line in lines:
        write(folder, line)
    return log.last_faults()


def test_a_line_with_a_code_is_quoted_and_those_without_are_not(tmp_path: Path) -> None:
    assert quoted(tmp_path, "0\t09:00:00\tone:443\tlogin OK", STOPPED, "0\t09:00:02\tone:443\tdisconnected") == QUOTED


def test_without_a_log_there_is_nothing_to_quote(tmp_path: Path) -> None:
    assert quoted(tmp_path) == ""
    assert DllLog(tmp_path / "missing", "cp1252").last_faults() == ""


def test_faults_of_an_earlier_session_are_not_this_ones(tmp_path: Path) -> None:
    write(tmp_path, STOPPED)
    assert quoted(tmp_path, "6\t10:00\ttwo:443\tNo connection") == "6 10:00 two:443 No connection"


def test_a_session_over_midnight_has_its_lines_in_two_files(tmp_path: Path) -> None:
    log = DllLog(tmp_path, "cp1252")
    write(tmp_path, "6\t23:59\tone:443\tfirst", "20261128")
    write(tmp_path, "255\t00:01\tone:443\tsecond", "20261129")
    assert log.last_faults() == "6 23:59 one:443 first | 255 00:01 one:443 second"


def test_a_log_that_was_replaced_by_a_shorter_one_is_read_from_its_begin(tmp_path: Path) -> None:
    write(tmp_path, STOPPED * 9)
    log = DllLog(tmp_path, "cp1252")
    (tmp_path / "logs" / "20261128.log").write_bytes(STOPPED.encode())
    assert log.last_faults() == QUOTED


def test_the_last_three_lines_are_quoted_and_each_is_cut(tmp_path: Path) -> None:
    shown = quoted(tmp_path, *(f"{code}\t\t\t{'x' * 9_999}" for code in range(1, 9)))
    assert [part.split()[0] for part in shown.split(" | ")] == ["6", "7", "8"]
    assert len(shown) == 3 * LINE_MAX_CHARS + 2 * len(" | ")


def test_of_a_log_without_end_only_the_last_part_is_read(tmp_path: Path) -> None:
    assert quoted(tmp_path, STOPPED, b"0\t\t\tnoise\r\n" * TAIL_BYTES) == ""
    assert quoted(tmp_path, b"0\t\t\tnoise\r\n" * TAIL_BYTES, STOPPED) == QUOTED


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"2\ta\x1b[31m\tb\x00\x7f\tc", r"2 a\x1b[31m b\x00\x7f c"),
        (b"2\ta\tb\tZ\xfcrich", "2 a b Zürich"),
        (b"2\ta\tb\t\x81\x9d", "2 a b ��"),
    ],
)
def test_what_would_drive_a_terminal_is_escaped(tmp_path: Path, text: bytes, shown: str) -> None:
    assert quoted(tmp_path, text) in {shown, shown.replace("�", r"\ufffd")}


@pytest.mark.parametrize("line", ["nothing", "x\ty\tz", "", "255", "1.5\ta\tb", "0\ta\tb\tc", "00\ta\tb\tc"])
def test_what_is_no_line_of_a_fault_is_left_out(tmp_path: Path, line: str) -> None:
    assert quoted(tmp_path, line) == ""


def test_a_password_is_never_quoted(tmp_path: Path) -> None:
    log = DllLog(tmp_path, "cp1252")
    log.secrets = ("s3cret-canary", "x")
    write(tmp_path, "65\t\tone:443\tlogin with s3cret-canary failed, x")
    assert log.last_faults() == "65  one:443 login with ******** failed, x"


def test_a_log_that_cannot_be_read_explains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DllLog(tmp_path, "cp1252")
    write(tmp_path, STOPPED)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(log, "_lines", refuse)
    assert log.last_faults() == ""


def test_other_files_in_the_folder_are_no_logs(tmp_path: Path) -> None:
    log = DllLog(tmp_path, "cp1252")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "20261128.log").mkdir()
    (tmp_path / "logs" / "notes.txt").write_text(STOPPED, encoding="ascii")
    assert log.last_faults() == ""


def test_a_folder_of_200_characters_is_too_deep_and_a_shorter_one_is_not() -> None:
    top = Path(Path.cwd().anchor)  # on Windows, with the drive
    name = "d" * (200 - len(str(top)))
    assert too_deep(top / name[1:]) == ""
    assert "path of 200 characters" in too_deep(top / name)


def test_the_newest_thirty_log_files_stay_and_other_files_are_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    days = [f"2026{month:02}{day:02}.log" for month in (10, 11) for day in range(1, 21)]
    others = ["20261001.txt", "notes.log", "symbols.raw"]
    for name in (*days, *others):
        (folder / name).write_text("0\tx", encoding="utf-8")
    DllLog(tmp_path, "cp1252")
    assert sorted(file.name for file in folder.iterdir()) == sorted([*days[-30:], *others])
