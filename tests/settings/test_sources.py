"""Where settings come from, which source wins, and what happens to names that nobody knows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt4pump.process.settings import read
from mt4pump.process.sources import FILE_BYTES_MAX
from mt4pump.settings import Settings, load, setting_as_written
from tests.settings.problems import SIMULATOR, problems_of


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def seed_with(*, flag: bool, environ: bool, dotenv: bool, toml: bool) -> int:
    write("mt4pump.toml", "seed = 4" if toml else "")
    write(".env", "MT4PUMP_SEED=3" if dotenv else "")
    flags = {**SIMULATOR, "seed": "1"} if flag else SIMULATOR
    return load(flags, {"MT4PUMP_SEED": "2"} if environ else {}).seed


def test_the_strongest_source_wins_flag_environment_dotenv_toml_default() -> None:
    assert seed_with(flag=True, environ=True, dotenv=True, toml=True) == 1
    assert seed_with(flag=False, environ=True, dotenv=True, toml=True) == 2
    assert seed_with(flag=False, environ=False, dotenv=True, toml=True) == 3
    assert seed_with(flag=False, environ=False, dotenv=False, toml=True) == 4
    assert seed_with(flag=False, environ=False, dotenv=False, toml=False) == Settings.model_fields["seed"].default


def test_each_value_has_its_origin() -> None:
    write("mt4pump.toml", "seed = 4")
    write(".env", "# one\nMT4PUMP_RATE=3\n")
    origins = read(Settings, SIMULATOR, {"MT4PUMP_ACCOUNTS": "7"}).origins
    assert origins["source"].text == "flag --source"
    assert origins["accounts"].text == "environment variable MT4PUMP_ACCOUNTS"
    assert origins["rate"].text == ".env line 2, MT4PUMP_RATE"
    assert origins["seed"].text == "mt4pump.toml, key seed"
    assert origins["ipv6"].kind == "default"
    assert origins.keys() == Settings.model_fields.keys()


def test_config_flag_beats_config_variable_beats_dotenv_beats_the_usual_file() -> None:
    for name, seed in (("flag", 1), ("environ", 2), ("dotenv", 3), ("mt4pump", 4)):
        write(f"{name}.toml", f"seed = {seed}")
    environ = {"MT4PUMP_CONFIG": "environ.toml"}
    assert load(SIMULATOR, environ, Path("flag.toml")).seed == 1
    assert load(SIMULATOR, environ).seed == 2
    assert load(SIMULATOR, {}).seed == 4
    write(".env", "MT4PUMP_CONFIG=dotenv.toml")
    assert load(SIMULATOR, {}).seed == 3


@pytest.mark.parametrize("asked_by", ["flag", "environment"])
def test_a_file_that_somebody_named_beats_dotenv(asked_by: str) -> None:
    write("named.toml", 'source = "simulator"\nseed = 4\n')
    write(".env", "MT4PUMP_SOURCE=dll\nMT4PUMP_DLL_PATH=evil.so\nMT4PUMP_SEED=3\nMT4PUMP_RATE=9\n")
    environ = {"MT4PUMP_CONFIG": "named.toml"} if asked_by == "environment" else {}
    found = load({}, environ, Path("named.toml") if asked_by == "flag" else None)
    assert (found.source, found.seed, found.rate) == ("simulator", 4, 9.0)


POSIX = pytest.mark.skipif(os.name != "posix", reason="on Windows rights are no modes")


@POSIX
@pytest.mark.parametrize("name", [".env", "mt4pump.toml", "named.toml"])
@pytest.mark.parametrize("opened", ["file", "folder"])
def test_a_file_that_others_may_write_or_replace_is_refused(name: str, opened: str, tmp_path: Path) -> None:
    write(name, "MT4PUMP_SEED=3" if name == ".env" else "seed = 3")
    (Path(name) if opened == "file" else tmp_path).chmod(0o777)
    problems = problems_of(SIMULATOR, config=Path(name) if name == "named.toml" else None)
    assert len(problems) == 1
    assert name in problems[0]
    assert f"chmod o-w {name if opened == 'file' else tmp_path}" in problems[0]


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize(("name", "refused"), [(".env", True), ("mt4pump.toml", True), ("named.toml", False)])
def test_a_file_of_another_user_that_nobody_named_is_refused(name: str, *, refused: bool) -> None:
    path = write(name, "MT4PUMP_SEED=3" if name == ".env" else "seed = 3")
    os.chown(path, 65534, 65534)
    if refused:
        (problem,) = problems_of(SIMULATOR)
        assert "belongs to the user 65534" in problem
    else:
        assert load(SIMULATOR, {}, path).seed == 3
        path.chmod(0o664)
        (problem,) = problems_of(SIMULATOR, config=path)
        assert "the group 65534 may write" in problem


@pytest.mark.parametrize("name", [".env", "mt4pump.toml"])
def test_a_file_too_large_for_settings_is_refused(name: str) -> None:
    write(name, "#" * (FILE_BYTES_MAX + 1))
    (problem,) = problems_of(SIMULATOR)
    assert f"{name} has more than {FILE_BYTES_MAX} bytes; is it the right file?" in problem


def test_lists_are_comma_separated_text_or_arrays() -> None:
    wanted = ("EUR*", "!EURX")
    assert load(SIMULATOR, {"MT4PUMP_SYMBOLS": " EUR* , !EURX ,"}).symbols == wanted
    assert load({**SIMULATOR, "symbols": "EUR*,!EURX"}, {}).symbols == wanted
    write("mt4pump.toml", 'symbols = ["EUR*", "!EURX"]')
    assert load(SIMULATOR, {}).symbols == wanted
    write("mt4pump.toml", 'symbols = "EUR*,!EURX"')
    assert load(SIMULATOR, {}).symbols == wanted


def test_an_array_in_toml_may_hold_commas_within_its_texts() -> None:
    write("mt4pump.toml", 'ticks = ["a,b.csv"]')
    assert load(SIMULATOR, {}).ticks == (Path("a,b.csv"),)


def test_an_empty_variable_is_not_given() -> None:
    write(".env", "MT4PUMP_RATE=\nMT4PUMP_SEED=5\n")
    settings = load(SIMULATOR, {"MT4PUMP_SEED": "", "MT4PUMP_ACCOUNTS": ""})
    assert (settings.seed, settings.accounts, settings.rate) == (5, 200, 200.0)


def test_dotenv_values_are_literal_and_may_be_quoted() -> None:
    write(".env", "export MT4PUMP_PASSWORD='a${HOME}$b #c'  # comment\n")
    password = load(SIMULATOR, {}).password
    assert password is not None
    assert password.get_secret_value() == "a${HOME}$b #c"


def test_files_with_the_byte_order_mark_of_windows_editors_are_read() -> None:
    Path(".env").write_bytes(b"\xef\xbb\xbfMT4PUMP_SEED=8\r\n")
    Path("mt4pump.toml").write_bytes(b"\xef\xbb\xbfaccounts = 9\r\n")
    settings = load(SIMULATOR, {})
    assert (settings.seed, settings.accounts) == (8, 9)


def test_variables_in_other_letters_count_and_the_exact_name_wins() -> None:
    assert load(SIMULATOR, {"mt4pump_seed": "2"}).seed == 2
    assert load(SIMULATOR, {"mt4pump_seed": "2", "MT4PUMP_SEED": "3", "Mt4pump_Seed": "4"}).seed == 3


def test_variables_of_others_do_not_matter() -> None:
    assert load(SIMULATOR, {"MT4_PASSWORD": "x", "MT4PUMPX": "y", "PATH": "z"}).source == "simulator"


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("MT4PUMP_PASWORD", "did you mean MT4PUMP_PASSWORD?"),
        ("MT4PUMP_PUBENDPOINT", "did you mean MT4PUMP_PUB_ENDPOINT?"),
        ("MT4PUMP_ZZZZZZZ", "remove it (mt4pump run --help lists all)"),
        ("MT4PUMP_", "remove it (mt4pump run --help lists all)"),
    ],
)
def test_an_unknown_variable_stops_with_the_nearest_right_name(name: str, cure: str) -> None:
    assert problems_of(SIMULATOR, {name: "v"}) == [f"{name} (environment): no such setting; {cure}"]
    write(".env", f"{name}=v")
    assert problems_of(SIMULATOR) == [f"{name} (.env line 1): no such setting; {cure}"]


def test_a_name_without_prefix_in_dotenv_stops_with_the_right_one() -> None:
    write(".env", "\nLOGIN=5\n")
    wanted = "LOGIN (.env line 2): no such setting; did you mean MT4PUMP_LOGIN?"
    assert problems_of(SIMULATOR) == [wanted]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sed = 1", "sed (mt4pump.toml line 1): no such setting; did you mean seed?"),
        ("pub-endpoint = 'x'", "pub-endpoint (mt4pump.toml line 1): no such setting; did you mean pub_endpoint?"),
        ("MT4PUMP_LOGIN = 1", "MT4PUMP_LOGIN (mt4pump.toml line 1): no such setting; did you mean login?"),
        ("[wire]\nipv6 = true", "wire (mt4pump.toml): is a table; write all settings at the top, without [wire]"),
    ],
)
def test_an_unknown_key_stops_with_the_nearest_right_one(line: str, problem: str) -> None:
    write("mt4pump.toml", line)
    assert problems_of(SIMULATOR) == [problem]


def test_an_unknown_flag_stops_with_the_nearest_right_one() -> None:
    assert problems_of({**SIMULATOR, "sed": "1"}) == ["--sed (flag): no such flag; did you mean --seed?"]


def test_a_flag_that_is_none_was_not_given() -> None:
    assert load({**SIMULATOR, "seed": None}, {"MT4PUMP_SEED": "3"}).seed == 3


def test_a_missing_config_file_is_named_with_who_asked_for_it() -> None:
    wanted = "there is no file gone.toml; correct the path"
    assert problems_of(SIMULATOR, config=Path("gone.toml")) == [f"config (--config): {wanted}"]
    environ = {"MT4PUMP_CONFIG": "gone.toml"}
    assert problems_of(SIMULATOR, environ) == [f"config (environment variable MT4PUMP_CONFIG): {wanted}"]


def test_a_config_that_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    (problem,) = problems_of(SIMULATOR, config=tmp_path)
    assert problem.startswith(f"config (--config): {tmp_path} cannot be read (")


def test_broken_toml_names_line_and_column() -> None:
    write("mt4pump.toml", "seed = 1\nsource = simulator\n")
    wanted = "mt4pump.toml is not TOML at line 2, column 10; write name = value, text in quotes"
    assert problems_of(SIMULATOR) == [f"config (working directory): {wanted}"]


@pytest.mark.parametrize("odd", ["seed = " + "1" * 5_000, "ticks = " + "[" * 5_000])
def test_toml_that_its_reader_chokes_on_is_named(odd: str) -> None:
    write("mt4pump.toml", odd)
    wanted = "mt4pump.toml has a number too long or brackets too deep to be read; correct it"
    assert problems_of(SIMULATOR) == [f"config (working directory): {wanted}"]


@pytest.mark.parametrize(("name", "value"), [("seed", "0x{}"), ("rate", "0x{}"), ("symbols", "['a', [0x{}]]")])
def test_a_number_that_cannot_be_shown_is_named(name: str, value: str) -> None:
    write("mt4pump.toml", f"{name} = {value.format('f' * 5_000)}")
    wanted = "has a whole number of more than 64 bits; write a smaller one"
    assert problems_of(SIMULATOR) == [f"{name} (mt4pump.toml line 1): {wanted}"]


def test_a_home_that_nobody_has_is_named_with_who_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    text = f"{Path('~x/f.toml')} cannot be expanded: Could not determine home directory.; write the whole path"
    assert problems_of(SIMULATOR, config=Path("~x/f.toml")) == [f"config (--config): {text}"]
    environ = {"MT4PUMP_CONFIG": "~x/f.toml"}
    assert problems_of(SIMULATOR, environ) == [f"config (environment variable MT4PUMP_CONFIG): {text}"]


def test_files_that_are_not_utf8_are_refused() -> None:
    Path("mt4pump.toml").write_bytes(b"server = '\xe9'")
    Path(".env").write_bytes(b"MT4PUMP_X=\xe9")
    assert problems_of(SIMULATOR) == [
        ".env is not UTF-8 text; save it as UTF-8",
        "config (working directory): mt4pump.toml is not UTF-8 text; save it as UTF-8",
    ]


def test_a_broken_line_of_dotenv_is_named() -> None:
    write(".env", "MT4PUMP_SEED=1\nMT4PUMP_PASSWORD\n'\n")
    assert problems_of(SIMULATOR) == [
        ".env line 2: is not NAME=value; write that, or # before a comment",
        ".env line 3: is not NAME=value; write that, or # before a comment",
    ]


def test_a_folder_called_dotenv_is_left_alone() -> None:
    Path(".env").mkdir()
    assert load(SIMULATOR, {}).source == "simulator"


def test_problems_of_all_sources_are_listed_together() -> None:
    write("mt4pump.toml", "sndhwm = 0\nextra = 1")
    write(".env", "MT4PUMP_IPV6=perhaps\nMT4PUMP_OTHER=1")
    lines = problems_of({"source": "simulatr", "rate": "-1"}, {"MT4PUMP_SEED": "x", "MT4PUMP_SEDE": "1"})
    assert {line.partition(":")[0] for line in lines} == {
        "extra (mt4pump.toml line 2)",
        "MT4PUMP_OTHER (.env line 2)",
        "MT4PUMP_SEDE (environment)",
        "source (flag --source)",
        "rate (flag --rate)",
        "seed (environment variable MT4PUMP_SEED)",
        "ipv6 (.env line 1, MT4PUMP_IPV6)",
        "sndhwm (mt4pump.toml line 1, key sndhwm)",
    }


def test_one_setting_can_be_read_whatever_else_is_wrong() -> None:
    assert setting_as_written("pub_endpoint", {}) == "tcp://127.0.0.1:5556"
    environ = {"MT4PUMP_PUB_ENDPOINT": "tcp://127.0.0.1:9", "MT4PUMP_NONSENSE": "1", "MT4PUMP_SEED": "x"}
    assert setting_as_written("pub_endpoint", environ) == "tcp://127.0.0.1:9"


@given(st.dictionaries(st.sampled_from([f"MT4PUMP_{name.upper()}" for name in Settings.model_fields]), st.text()))
def test_no_text_in_any_variable_raises_anything_but_a_settings_error(environ: dict[str, str]) -> None:
    environ = {name: value.replace("\0", "") for name, value in environ.items()}
    problems_of({"source": "simulator", "nonsense": "1"}, environ)
