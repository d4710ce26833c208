"""A recording holds raw frames with their timing; the whole messages of a damaged one are read."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mt4pump.errors import StartError
from mt4pump.recording import FORM, FRAMES_MAX, VERSION, RecordedMessage, Recording, RecordingWriter, checksum

BEGAN = 1_700_000_000_000_000_000
STREAM = [[b"quote.EURUSD", b"\x81\xa3seq\x01"], [b"trade.5", b"\x00\xff" * 500], [b"heartbeat", b""]]
WHOLE = [RecordedMessage(1_000 * number, frames) for number, frames in enumerate(STREAM, 1)]


def written(path: Path, stream: list[list[bytes]] = STREAM) -> Path:
    with RecordingWriter(path, BEGAN, {"endpoint": "tcp://127.0.0.1:1"}) as writer:
        for number, frames in enumerate(stream, 1):
            writer.add(frames, BEGAN + number * 1_000)
    return path


def read(path: Path) -> tuple[list[RecordedMessage], str]:
    with Recording(path) as recording:
        return list(recording), recording.problem


@pytest.mark.parametrize("name", ["a.rec", "a.rec.gz"])
def test_frames_and_times_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    assert read(path) == (WHOLE, "")
    with Recording(path) as recording:
        assert recording.about["endpoint"] == "tcp://127.0.0.1:1"
        assert recording.about["began_ns"] == BEGAN
        assert list(recording)
        assert recording.position_bytes == recording.size_bytes


def test_a_name_that_ends_in_gz_is_compressed_and_found_out_by_its_content(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec.gz")
    assert gzip.decompress(path.read_bytes()).startswith(b"\x84\xb1mt4pump_recording")
    assert read(path.rename(tmp_path / "b"))[1] == ""


def test_times_never_decrease_when_the_clock_is_set_back(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.rec", BEGAN, {}) as writer:
        for now_ns in (BEGAN + 5, BEGAN - 100, BEGAN + 7):
            writer.add([b"t", b""], now_ns)
    assert [message.at_ns for message in read(tmp_path / "a.rec")[0]] == [5, 5, 7]


@pytest.mark.parametrize("name", ["a.rec", "a.rec.gz"])
def test_a_file_that_was_cut_off_anywhere_gives_the_whole_messages_and_the_problem(tmp_path: Path, name: str) -> None:
    whole = written(tmp_path / name).read_bytes()
    cut = tmp_path / f"cut-{name}"
    seen = set()
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        try:
            messages, problem = read(cut)
        except StartError:  # not even its beginning is there
            continue
        assert [message.frames for message in messages] == STREAM[: len(messages)]
        assert problem == f"cut off behind message {len(messages)}: the file has no end mark" or not problem
        seen.add(len(messages))
    assert seen >= {0, 3}


def test_a_writer_that_was_killed_leaves_what_it_flushed(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.rec.gz", BEGAN, {})
    writer.add(STREAM[0], BEGAN)
    writer.flush()
    writer.add(STREAM[1], BEGAN)
    copy = tmp_path / "copy.rec.gz"
    copy.write_bytes((tmp_path / "a.rec.gz").read_bytes())
    writer.close()
    assert read(copy) == ([RecordedMessage(0, STREAM[0])], "cut off behind message 1: the file has no end mark")


def test_a_changed_byte_is_found_and_the_messages_before_it_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec")
    content = bytearray(path.read_bytes())
    content[content.index(b"trade.5") + 2] ^= 1
    path.write_bytes(content)
    messages, problem = read(path)
    assert [message.frames for message in messages] == STREAM[:1]
    assert problem == "damaged behind message 1: the next one is not as it was written"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), value=st.integers(1, 255), name=st.sampled_from(["a.rec", "a.rec.gz"]))
def test_no_damage_is_ever_played_or_ends_the_reader(tmp_path: Path, at: int, value: int, name: str) -> None:
    path = tmp_path / name
    path.unlink(missing_ok=True)
    content = bytearray(written(path).read_bytes())
    content[at % len(content)] ^= value
    path.write_bytes(content)
    try:
        messages, _ = read(path)
    except StartError:
        return
    assert messages == WHOLE[: len(messages)]


def test_a_damaged_time_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec")
    content = path.read_bytes()
    assert content.count(b"\x93\xcd\x07\xd0\x92") == 1  # the second message begins, at 2 000 ns
    path.write_bytes(content.replace(b"\x93\xcd\x07\xd0\x92", b"\x93\xcd\x87\xd0\x92"))
    assert read(path) == (WHOLE[:1], "damaged behind message 1: the next one is not as it was written")


@pytest.mark.parametrize("at", [-(2**63), -1, 2**64 - 1])
def test_no_number_in_place_of_a_time_ends_the_reader(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(msgpack.packb({FORM: VERSION}) + msgpack.packb([at, STREAM[0], 0]))
    assert read(path) == ([], "damaged behind message 0: the next one is not as it was written")


def test_an_end_map_with_another_count_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(msgpack.packb({FORM: VERSION}) + msgpack.packb({"messages": 3, "length_ns": 0}))
    assert read(path) == ([], "0 messages are there and 3 were recorded")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no recording"),
        (b"root:x:0:0", "is no recording"),
        (b"\xc1", "is no recording"),
        (b"\x1f\x8bnot gzip", "is no recording"),
        (msgpack.packb({FORM: 1}), "is a recording of form 1; this program reads form 2"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(content)
    with pytest.raises(StartError, match=why):
        Recording(path)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        Recording(tmp_path / "a.rec")
    with pytest.raises(StartError, match="cannot be written"):
        RecordingWriter(tmp_path / "none" / "a.rec", BEGAN, {})


def test_a_file_that_exists_is_not_overwritten_unless_that_is_meant(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec")
    with pytest.raises(StartError, match=r"exists; .* --force"):
        RecordingWriter(path, BEGAN, {})
    RecordingWriter(path, BEGAN, {}, overwrite=True).close()
    assert read(path) == ([], "")


def test_a_value_of_a_huge_declared_size_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(msgpack.packb({FORM: VERSION}) + b"\xc6\xff\xff\xff\xff" + bytes(100))
    assert read(path) == ([], "cut off behind message 0: the file has no end mark")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_full_disk_is_reported_by_the_flush() -> None:
    writer = RecordingWriter(Path("/dev/full"), BEGAN, {}, overwrite=True)
    writer.add(STREAM[1], BEGAN)
    with pytest.raises(OSError, match=r".") as caught:
        writer.flush()
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match=r"."):
        writer.close()


ODD = {
    "no frames": (0, [], "0 frames"),
    "too many frames": (0, [b"x"] * (FRAMES_MAX + 1), "frames"),
    "a time before the first": (-5, [b"a", b"b"], "a time before"),
    "a time beyond all years": (2**63 - 1, [b"a", b"b"], "another century"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_message_that_nobody_could_have_recorded_is_damage(tmp_path: Path, name: str) -> None:
    at_ns, frames, why = ODD[name]
    path = tmp_path / "a.rec"
    pack = msgpack.packb
    messages = [(0, [b"a", b"b"]), (at_ns, frames)]
    packed = b"".join(pack([at, list(each), checksum(at, each)]) for at, each in messages)
    path.write_bytes(pack({FORM: VERSION, "began_ns": 0}) + packed + pack({"messages": 2, "length_ns": 0}))
    messages_read, problem = read(path)
    assert len(messages_read) == 1
    assert "damaged behind message 1" in problem
    assert why in problem
