"""Compile the fake vendor library with PyPI's ziglang: no system compiler is needed, on any system, for any target."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent
WINDOWS_64, WINDOWS_32 = "x86_64-windows-gnu", "x86-windows-gnu"
FILE_NAMES = {WINDOWS_64: "mtmanapi64.dll", WINDOWS_32: "mtmanapi.dll"}
FLAGS = (
    "-std=c11",
    "-D_POSIX_C_SOURCE=200809L",
    "-O2",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",  # traps take arguments only to clean the stack by them
    "-shared",
)
LIMIT_S = 900
"""The first build for a target also builds that target's C library: half a minute on two slow cores,
minutes beside a busy machine."""


class CompileError(Exception):
    """The fake could not be compiled; the text holds the command and what the compiler said."""


def compile_fake(folder: Path, target: str | None = None) -> Path:
    """Compile the fake into ``folder`` for this Python, or for a zig ``target``, and return the library's path.

    Raises CompileError. Zig's caches are kept in the temporary folder, so that only the first build is slow.
    """
    target = target or _own_target()
    library = folder / FILE_NAMES.get(target or "", _own_name())
    return _compiled(sorted(SOURCES.glob("*.c")), library, target, "-fvisibility=hidden")


def compile_source(source: str, library: Path, target: str | None = None, *flags: str) -> Path:
    """Compile C ``source`` into the shared ``library`` for this Python, or a zig ``target``, and return its path.

    Raises CompileError.
    """
    file = library.with_suffix(".c")
    file.write_text(source, encoding="utf-8")
    return _compiled([file], library, target or _own_target(), *flags)


def compile_program(source: str, program: Path, target: str, *more: str | Path) -> Path:
    """Compile C ``source``, with ``more`` flags and libraries, into a program for a zig ``target``; return its path.

    Raises CompileError.
    """
    file = program.with_suffix(".c")
    file.write_text(source, encoding="utf-8")
    return _compiled([file], program, target, *map(str, more), shared=False)


def compile_objects(folder: Path, target: str) -> list[Path]:
    """Compile each source of the fake into an object file in ``folder``; they keep the names that linking drops."""
    made = [folder / f"{source.stem}.obj" for source in sorted(SOURCES.glob("*.c"))]
    for source, file in zip(sorted(SOURCES.glob("*.c")), made, strict=True):
        _compiled([source], file, target, "-c")
    return made


def _compiled(sources: list[Path], library: Path, target: str | None, *flags: str, shared: bool = True) -> Path:
    library.parent.mkdir(parents=True, exist_ok=True)
    options = [flag for flag in FLAGS if shared or flag != "-shared"]
    command = [sys.executable, "-m", "ziglang", "cc", *options, *flags, "-o", str(library), *map(str, sources)]
    command += ["-target", target] if target else ["-fPIC", "-pthread"]
    try:
        done = subprocess.run(
            command,
            cwd=library.parent,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{' '.join(command)}\n{error}") from error
    if done.returncode or not library.is_file():
        hint = "\ninstall it with: pip install ziglang" if "No module named ziglang" in done.stderr else ""
        raise CompileError(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}{hint}")
    return library


def _own_target() -> str | None:
    """Return the target of this Python's word size on Windows, where zig's own may differ; else zig's default."""
    if sys.platform != "win32":
        return None
    return WINDOWS_64 if sys.maxsize > 2**32 else WINDOWS_32


def _own_name() -> str:
    return "libmtmanapi.dylib" if sys.platform == "darwin" else "libmtmanapi.so"


def _environment() -> dict[str, str]:
    """Return the environment with zig's caches in a folder of our own, unless somebody chose one."""
    cache = str(Path(tempfile.gettempdir()) / f"mt4pump-zig-{getpass.getuser()}")
    return {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, **os.environ}
