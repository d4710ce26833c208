"""``mt4pump reload``: the answer and the exit code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mt4pump.cli import main
from mt4pump.process.lock import DataFolderLock
from mt4pump.process.reload import ReloadWatcher


@contextmanager
def answering(folder: Path, text: str, *, ok: bool) -> Iterator[None]:
    """Hold ``folder`` and answer every request."""
    ending = threading.Event()
    with DataFolderLock(folder):
        desk = ReloadWatcher(folder)

        def serve() -> None:
            while not ending.wait(0.002):
                if desk.poll():
                    desk.answer(text, ok=ok)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()


def test_done_is_0_and_the_answer_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path / "data", "taken over: symbols", ok=True):
        assert main(["reload", f"--data-dir={tmp_path / 'data'}"]) == 0
    assert capsys.readouterr() == ("mt4pump reload: taken over: symbols\n", "")


def test_refused_is_1_and_the_reason_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path / "data", "nothing changed: settings are wrong:\n  seed: x", ok=False):
        assert main(["reload", f"--data-dir={tmp_path / 'data'}"]) == 1
    assert capsys.readouterr() == ("", "mt4pump reload: nothing changed: settings are wrong:\n  seed: x\n")


def test_the_folder_comes_from_the_settings_even_when_others_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mt4pump.toml").write_text('seed = "x"\n', encoding="utf-8")
    monkeypatch.setenv("MT4PUMP_DATA_DIR", str(tmp_path / "data"))
    with answering(tmp_path / "data", "fine", ok=True):
        assert main(["reload"]) == 0
    monkeypatch.delenv("MT4PUMP_DATA_DIR")
    Path("other.toml").write_text(f"data_dir = '{tmp_path / 'data'}'\n", encoding="utf-8")
    with answering(tmp_path / "data", "fine", ok=True):
        assert main(["reload", "--config=other.toml"]) == 0
    assert capsys.readouterr().out == "mt4pump reload: fine\n" * 2


def test_no_daemon_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reload", f"--data-dir={tmp_path}"]) == 3
    assert f"no daemon runs on data_dir {tmp_path}" in capsys.readouterr().err


def test_no_answer_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DataFolderLock(tmp_path):
        ReloadWatcher(tmp_path)
        assert main(["reload", f"--data-dir={tmp_path}", "--timeout=0.05"]) == 1
    assert "did not answer within 0.05 s" in capsys.readouterr().err


def test_an_empty_folder_name_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reload", "--data-dir= "]) == 2
    assert "data_dir: is empty; write a path" in capsys.readouterr().err
