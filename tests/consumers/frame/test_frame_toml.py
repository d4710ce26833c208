"""TOML files of consumers: settings, rules, tokens. Whatever is wrong is said in words, with the file's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mt4pump_consumers.frame import ConsumerSettings, run_consumer, settings_config
from mt4pump_consumers.frame.toml_file import BYTES_MAX, read_toml
from mt4pump_consumers.gateway.tokens import BadKey, TokenFile
from mt4pump_consumers.monitor.rules import load_rules

ODD = {
    "too deep": ("x = " + "[" * 5_000, "brackets too deep"),
    "tables too deep": ("x = " + "{a=" * 5_000, "brackets too deep"),
    "a long number": ("x = " + "1" * 5_000, "number too long"),
    "no TOML": ("x = 1\n[[\n", "no TOML at line"),
    "cut off": ("x = [", "no TOML"),
    "too large": ("#" * (BYTES_MAX + 1), "bytes; is it the right file"),
}


class Settings(ConsumerSettings):
    """Settings of a consumer that there is not."""

    model_config = settings_config("odd")


def _as_settings(path: Path) -> None:
    code = run_consumer(Settings, lambda _settings, _ending: 0, "A test.", ["--config", str(path)])
    assert code == 2


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize(("reader", "error"), [(read_toml, ValueError), (load_rules, ValueError), (TokenFile, BadKey)])
def test_odd_toml_is_refused_with_the_files_name(
    tmp_path: Path, text: tuple[str, str], reader: Callable[[Path], object], error: type[Exception]
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text[0])
    with pytest.raises(error, match=text[1]) as found:
        reader(path)
    assert str(path) in str(found.value)
    assert len(str(found.value)) < 500


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_settings_end_a_consumer_with_code_2_and_no_traceback(
    tmp_path: Path, text: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text[0])
    _as_settings(path)
    said = capsys.readouterr().err
    assert text[1] in said
    assert str(path) in said
    assert len(said.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="on Windows rights are no modes")
@pytest.mark.parametrize("reader", [read_toml, load_rules, TokenFile])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    path = tmp_path / "open.toml"
    path.write_text("")
    path.chmod(0o666)
    with pytest.raises((ValueError, BadKey), match="chmod o-w"):
        reader(path)
