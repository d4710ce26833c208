"""Every sample decodes every golden vector to the JSON that stands beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.samples.languages import LANGUAGES, SAMPLES, Workshop, environment

VECTORS = Path(__file__).parents[1] / "vectors"
LIMIT_S = 110
LINES = 80
"""Most lines of a sample."""
pytestmark = pytest.mark.timeout(300)


def messages() -> list[dict[str, Any]]:
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(VECTORS.glob("*.json"))]
    return [message for file in files for case in file["cases"] for message in case["messages"]]


def samples() -> list[Path]:
    return [path for path in SAMPLES.iterdir() if path.stem.lower() == "subscriber"]


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_sample_decodes_every_vector(workshop: Workshop, name: str) -> None:
    wanted = messages()
    bodies = "".join(f"{message['body']}\n" for message in wanted)
    done = subprocess.run(
        workshop.decoder(name),
        input=bodies.encode(),
        capture_output=True,
        env=environment(),
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    result = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert len(result) == len(wanted) > 200
    wrong = [(message["text"], got) for message, got in zip(wanted, result, strict=True) if got != message["json"]]
    assert wrong == []


def test_the_sample_that_cannot_be_run_here_says_so_first_and_is_csharp() -> None:
    sample = SAMPLES / "Subscriber.cs"
    assert sample.read_text(encoding="utf-8").startswith("// NOT RUN BY US")
    if shutil.which("mcs") is None:
        pytest.skip("mcs is not installed (apt: mono-mcs)")
    done = subprocess.run(  # only its syntax: NetMQ itself is not to be had
        ["mcs", "--parse", str(sample)],  # noqa: S607 - by name
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_sample_is_named_in_the_readme() -> None:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(samples()) == len(LANGUAGES) + 1
    assert [path.name for path in samples() if path.name not in readme] == []


def test_every_sample_is_short() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in samples()}
    long = {name: lines for name, lines in lengths.items() if lines > LINES}
    assert long == {}, "a sample is to be read at one go: move what its reader does not need to tests/samples/drivers"
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    rows = {name: row for row in readme.splitlines() for name in lengths if row.startswith(f"| `{name}`")}
    assert [name for name, lines in lengths.items() if f" | {lines} " not in rows[name]] == []
