"""``python -m tests.lock``: resolve anew what is installed everywhere, and write it to ``deploy/`` and pyproject.toml.

Run it when newer releases are wanted, then run all tests: nothing else changes what the README's commands install. It
asks the package index; the tests never do. ``uv`` resolves. Written are

* ``constraints.txt``: one version of everything for CPython 3.11 to 3.13 on Windows, Linux and macOS;
* ``constraints-win32.txt``: the same for 32-bit Python on Windows, for which no marker exists;
* ``hashes.txt``, ``hashes-win32.txt``: what daemon and consumers need of it, with the digests of all files;
* ``hashes-archive.txt``: refers to ``hashes.txt`` and adds what ``mt4pump-archive`` needs for its files and PostgreSQL;
* ``[build-system] requires``: the build backend and what it needs.

At the end it checks that everything with digests installs from wheels alone on every supported system.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PROJECT_FILE = ROOT / "pyproject.toml"
PYTHONS = ("3.11", "3.12", "3.13")
UNIVERSAL = ("--universal", "--python-version", PYTHONS[0])
WIN32 = "i686-pc-windows-msvc"
PLATFORMS = (
    "x86_64-pc-windows-msvc",
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
)
NO_WIN32_WHEEL = ("playwright", "polars", "tree-sitter", "tree-sitter-powershell")
"""Test tools that have no wheel for 32-bit Python on Windows; their tests do not run there."""
INTEL_MAC = ("cryptography<49; sys_platform == 'darwin' and platform_machine == 'x86_64'",)
"""What uv cannot know: newer ones have no wheel there.

Nor have they for 32-bit Windows. 48.0.1, the last that has, has a known vulnerability (CVE-2026-69247). Only the
gateway uses it, for tokens: run the gateway on a 64-bit Python (macOS: on an ARM processor). The daemon needs none.
"""
ENTRY = re.compile(r"^[\w.-]+==[^\n]*\n(?:[ ]+[^\n]*\n)*", re.MULTILINE)
"""One project in uv's output: its pin, digests and reasons."""
ARCHIVE = ("consumers", "archive", "postgresql")
"""The extras of ``hashes-archive.txt``."""
BUILD_REQUIRES = re.compile(r"^requires = \[[^\]]*\]$", re.MULTILINE)
HEADER = {
    "constraints.txt": """\
# The versions that mt4pump's tests ran with, of everything it needs, also for its consumers, its tests and its build:
# CPython 3.11 to 3.13 on Windows (64-bit), Linux and macOS. Written by `python -m tests.lock`, never by hand.
#   pip install -c constraints.txt 'mt4pump[consumers]'
""",
    "constraints-win32.txt": """\
# The same for 32-bit CPython 3.11 to 3.13 on Windows: no marker names it. Written by `python -m tests.lock`.
#   pip install --only-binary :all: -c constraints-win32.txt mt4pump[consumers]
""",
    "hashes.txt": """\
# What mt4pump and its consumers need, with the SHA-256 of every file: CPython 3.11 to 3.13 on Windows (64-bit), Linux
# and macOS. Versions as in constraints.txt. Written by `python -m tests.lock`.
#   pip install --require-hashes -r hashes.txt && pip install --no-deps mt4pump-1.0-py3-none-any.whl
""",
    "hashes-archive.txt": """\
# hashes.txt, which must lie beside this file, and what the archive needs: mt4pump[archive] and mt4pump[postgresql],
# neither for 32-bit Python. Versions as in constraints.txt. Written by `python -m tests.lock`.
#   pip install --require-hashes -r hashes-archive.txt && pip install --no-deps mt4pump-1.0-py3-none-any.whl
""",
    "hashes-win32.txt": """\
# The same for 32-bit CPython 3.11 to 3.13 on Windows. Versions as in constraints-win32.txt.
# Written by `python -m tests.lock`.
#   pip install --require-hashes -r hashes-win32.txt && pip install --no-deps mt4pump-1.0-py3-none-any.whl
""",
}


def pins(file: str, places: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the version of each project that a file of ``deploy/`` pins, here or where markers have other values."""
    found: dict[str, str] = {}
    for line in (DEPLOY / file).read_text(encoding="utf-8").splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.removesuffix(" \\"))
            if requirement.marker is None or requirement.marker.evaluate(dict(places or {})):
                found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def requirements(*extras: str, without: tuple[str, ...] = ()) -> list[str]:
    """Return what pyproject.toml asks for: the dependencies, those of ``extras``, and the build backend's range."""
    content = tomllib.loads(PROJECT_FILE.read_text(encoding="utf-8"))
    project = content["project"]
    lines = [*project["dependencies"], *content["dependency-groups"]["build"]]
    lines += [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [line for line in lines if name_of(line) not in (project["name"], *without)]


def name_of(requirement: str) -> str:
    """Return the name of the project that a requirement begins with."""
    found = re.match(r"[\w.-]+", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} begins with no name")
    return found[0]


def compile_with_uv(lines: list[str], *options: str) -> str:
    """Resolve ``lines`` with uv and return the pinned requirements, each with its reason."""
    command = [sys.executable, "-m", "uv", "--no-config", "pip", "compile", "-", "--quiet", "--no-header", *options]
    done = subprocess.run(
        command, input="\n".join(lines), cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def resolve_win32(lines: list[str], *options: str) -> str:
    """Resolve for 32-bit Windows from wheels alone, for each Python, and join the results.

    A package that only some Pythons need stands in the result; two versions of one are refused.
    """
    joined: dict[str, str] = {}
    for python in PYTHONS:
        found = compile_with_uv(
            lines, "--python-platform", WIN32, "--python-version", python, "--only-binary", ":all:", *options
        )
        for entry in ENTRY.findall(found):
            pin = entry.split()[0]
            name = pin.partition("==")[0]
            if joined.setdefault(name, entry).split()[0] != pin:
                raise SystemExit(f"{joined[name].split()[0]} and {pin} on 32-bit Windows: one file cannot hold both")
    return "".join(joined[name] for name in sorted(joined))


def write_build_requires(constraints: str) -> None:
    """Write the build backend and all that it needs, as pinned in ``constraints``, into pyproject.toml."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "pins.txt")
        pins.write_text(constraints, encoding="utf-8")
        backend = requirements()[-1:]
        needed = compile_with_uv(backend, *UNIVERSAL, "-c", str(pins))
    names = re.findall(r"^[\w.-]+==[\w.]+", needed, re.MULTILINE)
    text = PROJECT_FILE.read_text(encoding="utf-8")
    block = "requires = [\n" + "".join(f'  "{pin}",\n' for pin in names) + "]"
    PROJECT_FILE.write_text(BUILD_REQUIRES.sub(block, text, count=1), encoding="utf-8")


def write(name: str, content: str) -> None:
    """Write a file of ``deploy/`` with its header."""
    (DEPLOY / name).write_text(HEADER[name] + content, encoding="utf-8")


def hashed(file: str, *extras: str) -> str:
    """Return what daemon and ``extras`` need with the digests of its files, in the versions that ``file`` pins."""
    needed = [line for line in requirements(*extras) if line not in requirements()[-1:]]
    pinned = ("--generate-hashes", "--no-annotate", "-c", str(DEPLOY / file))
    if file == "constraints-win32.txt":
        return resolve_win32(needed, *pinned)
    return compile_with_uv([*needed, *INTEL_MAC], *UNIVERSAL, *pinned)


def added_to(file: str, content: str) -> str:
    """Return a reference to ``file`` of ``deploy/``, and the entries of ``content`` that it does not hold."""
    known = set(ENTRY.findall((DEPLOY / file).read_text(encoding="utf-8")))
    return f"-r {file}\n" + "".join(entry for entry in ENTRY.findall(content) if entry not in known)


def unsupported() -> Iterator[str]:
    """Yield each system on which something cannot be installed from wheels alone, with uv's reason."""
    places = [(platform, "constraints.txt", ARCHIVE) for platform in PLATFORMS]
    for platform, file, extras in (*places, (WIN32, "constraints-win32.txt", ("consumers",))):
        for python in PYTHONS:
            try:
                compile_with_uv(
                    requirements(*extras),
                    *("--python-platform", platform, "--python-version", python),
                    *("--only-binary", ":all:", "-c", str(DEPLOY / file)),
                )
            except SystemExit as error:
                yield f"{platform}, Python {python}: {error}"


def main() -> int:
    """Write all files; return 0 when every system can install them."""
    everything = compile_with_uv([*requirements(*ARCHIVE, "test"), *INTEL_MAC], *UNIVERSAL)
    write("constraints.txt", everything)
    write("constraints-win32.txt", resolve_win32(requirements("consumers", "test", without=NO_WIN32_WHEEL)))
    write_build_requires(everything)
    write("hashes.txt", hashed("constraints.txt", "consumers"))
    write("hashes-archive.txt", added_to("hashes.txt", hashed("constraints.txt", *ARCHIVE)))
    write("hashes-win32.txt", hashed("constraints-win32.txt", "consumers"))
    problems = list(unsupported())
    print("\n".join(problems) or "written; daemon and consumers install from wheels alone on every supported system")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
