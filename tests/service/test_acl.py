"""No folder that somebody else may have made becomes that of a service which runs as LocalSystem."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mt4pump.service import windows
from mt4pump.service.plan import ServiceError, restrict
from mt4pump.service.windows import PROOF, CommandResult, secure

DLL = "dll_path = 'C:\\Users\\Public\\theirs.dll'\n"


class Place:
    """A folder to be, and what was done to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "daemon" / "mt4pump.toml"
        self.calls: list[list[str]] = []
        self.planted_late = False

    def secure(self) -> None:
        """Do what an installation begins with."""
        secure(self.root, self.call, [self.settings, self.root / "gateway" / "mt4pump-gateway.toml"])

    def call(self, command: Sequence[str]) -> CommandResult:
        """Take the command for done."""
        self.calls.append(list(command))
        if self.planted_late:
            self.plant()
        return CommandResult(0, "")

    def plant(self) -> None:
        """Do what any user can do before the folder is restricted."""
        self.settings.parent.mkdir(parents=True)
        self.settings.write_text(DLL, encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a folder that is not there, with a registry in this process."""
    values: dict[str, str] = {}
    monkeypatch.setattr(windows, "read_value", values.get)
    monkeypatch.setattr(windows, "write_value", values.__setitem__)
    return Place(tmp_path / "deep" / "mt4pump")


def test_a_new_folder_is_restricted_and_known_again_whatever_is_in_it_by_then(place: Place) -> None:
    place.secure()
    place.plant()  # by the administrator
    place.secure()
    assert place.calls == [restrict(str(place.root))] * 2
    assert place.settings.read_text(encoding="utf-8") == DLL


def test_a_folder_made_beforehand_is_refused_untouched_with_the_settings_in_it_named(place: Place) -> None:
    place.plant()
    with pytest.raises(ServiceError) as caught:
        place.secure()
    for words in ("was not made by mt4pump service install", "Move it away", f"Settings files in it: {place.settings}"):
        assert words in str(caught.value)
    assert "gateway" not in str(caught.value)
    assert (place.calls, place.settings.read_text(encoding="utf-8")) == ([], DLL)


def test_an_empty_one_is_made_anew_as_its_maker_would_stay_its_owner(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.root.mkdir(parents=True)
    made: list[Path] = []
    mkdir = Path.mkdir

    def note(path: Path, **options: Any) -> None:
        mkdir(path, **options)
        made.append(path)

    monkeypatch.setattr(Path, "mkdir", note)
    place.secure()
    assert place.root in made
    assert (place.root / PROOF).is_file()


def test_the_proof_of_another_folder_or_an_invented_one_proves_nothing(place: Place, tmp_path: Path) -> None:
    place.secure()
    place.root.rename(tmp_path / "away")
    place.plant()
    (place.root / PROOF).write_bytes(b"\xff invented")
    with pytest.raises(ServiceError, match="was not made by"):
        place.secure()
    (tmp_path / "away").rename(tmp_path / "other")
    other = Place(tmp_path / "other")
    with pytest.raises(ServiceError, match="was not made by"):
        other.secure()


def test_a_folder_that_was_moved_away_and_back_is_still_ours(place: Place, tmp_path: Path) -> None:
    place.secure()
    place.root.rename(tmp_path / "away")
    place.plant()
    with pytest.raises(ServiceError, match="was not made by"):
        place.secure()
    place.root.rename(tmp_path / "theirs")
    (tmp_path / "away").rename(place.root)
    place.secure()


def test_a_link_to_our_folder_is_refused_as_its_maker_can_change_its_target(place: Place, tmp_path: Path) -> None:
    place.secure()
    place.root.rename(tmp_path / "real")
    try:
        place.root.symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    with suppress(ServiceError):  # Windows removes the link, as it does an empty folder
        place.secure()
    assert len(place.calls) == 1 or not place.root.is_symlink()


def test_what_comes_into_it_before_it_is_restricted_ends_the_install(place: Place) -> None:
    place.planted_late = True
    with pytest.raises(ServiceError, match="somebody wrote into"):
        place.secure()
    assert not (place.root / PROOF).exists()


def test_without_the_rights_to_note_it_nothing_is_made(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str, _text: str) -> None:
        raise ServiceError("Run as administrator")

    monkeypatch.setattr(windows, "write_value", refuse)
    with pytest.raises(ServiceError, match="Run as administrator"):
        place.secure()
    assert not place.root.exists()
