"""Compile the fake vendor library with PyPI's ziglang: no system compiler is needed, on any system, for any target."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
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
START = SOURCES / "start.c"
FOR_WINDOWS = ("-D__USE_MINGW_ANSI_STDIO=0", "-c")
LINK_WINDOWS = ("-shared", "-O2", "-nostdlib", "-lucrtbase", "-lkernel32")
"""Libraries for Windows use the system's C library: zig's own takes minutes to build."""
AT_ONCE = 2
LIMIT_S = 900
"""A program for Windows has zig's C library, which the first build for a target builds as well."""


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
    return _objects(sorted(SOURCES.glob("*.c")), folder, target, "-fvisibility=hidden")


def _objects(sources: list[Path], folder: Path, target: str, *flags: str) -> list[Path]:
    """Compile ``sources`` for Windows, two at a time."""
    files = [folder / f"{source.stem}.obj" for source in sources]
    options = [flag for flag in FLAGS if flag != "-shared"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = [
            pool.submit(_run, [*options, *FOR_WINDOWS, *flags, "-target", target, "-o", str(file), str(source)], file)
            for source, file in zip(sources, files, strict=True)
        ]
    return [each.result() for each in done]


def _compiled(sources: list[Path], library: Path, target: str | None, *flags: str, shared: bool = True) -> Path:
    if target and shared:
        objects = _objects([*sources, *({START} - set(sources))], library.parent, target)
        libraries = [flag for flag in flags if not flag.startswith("-f")]
        words = [*LINK_WINDOWS, "-target", target, "-o", str(library), *map(str, objects), *libraries]
        return _run(words, library)
    options = [flag for flag in FLAGS if shared or flag != "-shared"]
    system = ["-target", target] if target else ["-fPIC", "-pthread"]
    return _run([*options, *flags, "-o", str(library), *map(str, sources), *system], library)


def _run(words: list[str], library: Path) -> Path:
    """Run the compiler, which makes ``library``; return that. Raises CompileError."""
    library.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ziglang", "cc", *words]
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
