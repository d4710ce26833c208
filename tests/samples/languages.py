"""The samples by language: what each needs, how it is built, how it is run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "consumers" / "samples"
DRIVERS = Path(__file__).parent / "drivers"
BUILD_LIMIT_S = 110
NODE_FOLDERS = (str(SAMPLES / "node_modules"), *filter(None, [os.environ.get("NODE_PATH")]))
JARS = ("/usr/share/java/jeromq.jar", "/usr/share/java/msgpack-core.jar")
GO = ("GO111MODULE=off", "GOPATH=/usr/share/gocode", "GOFLAGS=")
Words = list[str]


@dataclass(frozen=True)
class Language:
    """A sample and the driver that decodes vectors with it; each builder returns a command.

    ``probe`` is a command, and its input, that succeed where everything is installed that ``packages`` name.
    The daemon refuses a library that does not speak ZMTP 3, as Debian's JeroMQ 0.3.6.
    """

    packages: str
    probe: Words
    build: Callable[[Path], Words]
    build_decoder: Callable[[Path], Words]
    probe_input: str = ""
    speaks_zmtp_3: bool = True


def environment() -> dict[str, str]:
    """Return an environment in which Node finds its modules."""
    return {**os.environ, "NODE_PATH": os.pathsep.join(NODE_FOLDERS)}


def script(source: Path, *interpreter: str) -> Callable[[Path], Words]:
    """Return what needs no build."""
    return lambda _folder: [*interpreter, str(source)]


def compiled(source: Path) -> Callable[[Path], Words]:
    """Return what builds a source with the command that its head names."""

    def build(folder: Path) -> Words:
        head = re.search(
            r"^\W*(c(?:c|\+\+) -[^&\n]*?)(?: &&.*)?(?: \*/)?$", source.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert head, f"{source} does not say how it is compiled"
        for each in (*SAMPLES.glob("*.[ch]*"), *DRIVERS.glob("*.[ch]*")):
            shutil.copy(each, folder)
        checked([*shlex.split(head[1]), "-Wall", "-Werror"], folder)
        return [str(folder / source.stem)]

    return build


def go(*command: str) -> Callable[[Path], Words]:
    """Return what builds the sample in Go, or its driver, with Debian's packages, into ``program``."""

    def build(folder: Path) -> Words:
        for each in (*SAMPLES.glob("*.go"), *DRIVERS.glob("*.go")):
            shutil.copy(each, folder)
        checked(["env", *GO, f"GOCACHE={folder / 'cache'}", "go", *command], folder)
        return [str(folder / "program")]

    return build


def java(name: str) -> Callable[[Path], Words]:
    """Return what compiles the sample in Java with its driver, and runs the class ``name``."""

    def build(folder: Path) -> Words:
        path = os.pathsep.join([*JARS, str(folder)])
        sources = (str(SAMPLES / "Subscriber.java"), str(DRIVERS / "Decode.java"))
        checked(["javac", "-encoding", "UTF-8", "-cp", path, "-d", str(folder), *sources], folder)
        return ["java", "-cp", path, name]

    return build


def checked(command: Words, folder: Path) -> None:
    """Run a compiler; fail with what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


LANGUAGES = {
    "python": Language(
        "pip: pyzmq msgpack",
        [sys.executable, "-c", "import zmq, msgpack"],
        script(SAMPLES / "subscriber.py", sys.executable, "-u"),
        script(DRIVERS / "decode.py", sys.executable),
    ),
    "node": Language(
        "npm, in consumers/samples: npm install",
        ["node", "-e", "require('zeromq'); require('@msgpack/msgpack')"],
        script(SAMPLES / "subscriber.js", "node"),
        script(DRIVERS / "decode.js", "node"),
    ),
    "c": Language(
        "apt: gcc libc6-dev libzmq3-dev libmsgpack-dev",
        ["cc", "-fsyntax-only", "-xc", "-"],
        compiled(SAMPLES / "subscriber.c"),
        compiled(DRIVERS / "decode.c"),
        "#include <msgpack.h>\n#include <zmq.h>\n",
    ),
    "c++": Language(
        "apt: g++ libzmq3-dev cppzmq-dev libmsgpack-cxx-dev",
        ["c++", "-std=c++17", "-DMSGPACK_NO_BOOST", "-fsyntax-only", "-xc++", "-"],
        compiled(SAMPLES / "subscriber.cpp"),
        compiled(DRIVERS / "decode.cpp"),
        "#include <msgpack.hpp>\n#include <zmq_addon.hpp>\n",
    ),
    "perl": Language(
        "apt: libzmq-ffi-perl libdata-messagepack-perl libzmq3-dev",
        ["perl", "-MZMQ::FFI", "-MData::MessagePack", "-e", "ZMQ::FFI->new"],
        script(SAMPLES / "subscriber.pl", "perl"),
        script(DRIVERS / "decode.pl", "perl"),
    ),
    "ruby": Language(
        "apt: ruby-ffi-rzmq ruby-msgpack",
        ["ruby", "-rffi-rzmq", "-rmsgpack", "-e", ""],
        script(SAMPLES / "subscriber.rb", "ruby"),
        script(DRIVERS / "decode.rb", "ruby"),
    ),
    "php": Language(
        "apt: php-cli php-zmq php-msgpack",
        ["php", "-r", "exit((int) !(class_exists('ZMQ') && function_exists('msgpack_pack')));"],
        script(SAMPLES / "subscriber.php", "php"),
        script(DRIVERS / "decode.php", "php"),
    ),
    "go": Language(
        "apt: golang-go gcc libzmq3-dev golang-github-vmihailenco-msgpack.v5-dev",
        ["env", *GO, "go", "list", "github.com/vmihailenco/msgpack/v5"],
        go("build", "-o", "program", "subscriber.go", "frames.go"),
        go("test", "-c", "-o", "program", "subscriber.go", "frames.go", "decode_test.go"),
    ),
    "java": Language(
        "apt: default-jdk-headless libjeromq-java libmsgpack-java",
        [
            sys.executable,
            "-c",
            f"import os, shutil; exit(not (shutil.which('javac') and all(map(os.path.exists, {JARS}))))",
        ],
        java("Subscriber"),
        java("Decode"),
        speaks_zmtp_3=False,
    ),
}


def is_there(language: Language) -> bool:
    """Return whether all that the sample needs is installed."""
    try:
        done = subprocess.run(
            language.probe,
            input=language.probe_input,
            text=True,
            capture_output=True,
            env=environment(),
            timeout=BUILD_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


class Workshop:
    """Builds each sample, and its driver, once. `command` and `decoder` skip the test where the language is missing."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        self._folder = folder
        self._built: dict[str, Words | None] = {}
        self._decoders: dict[str, Words] = {}

    def build(self, name: str) -> Words | None:
        """Return the command of a sample; None where its language is missing."""
        if name not in self._built:
            there = is_there(LANGUAGES[name])
            self._built[name] = LANGUAGES[name].build(self._folder(name)) if there else None
        return self._built[name]

    def command(self, name: str) -> Words:
        """Return the command of a sample; skip where its language is missing."""
        if (command := self.build(name)) is None:
            pytest.skip(f"what the sample in {name} needs is not installed ({LANGUAGES[name].packages})")
        return command

    def decoder(self, name: str) -> Words:
        """Return the command that decodes vectors with a sample; skip where its language is missing."""
        self.command(name)
        if name not in self._decoders:
            self._decoders[name] = LANGUAGES[name].build_decoder(self._folder(f"decode-{name}"))
        return self._decoders[name]
