"""``python -m tests.versions --newest|--lowest [pytest's arguments]``: run the tests with others than the locked set.

``--newest`` takes the newest releases within the ranges of pyproject.toml, ``--lowest`` the lowest ones of everything
that it names. They are installed into an environment of their own, which goes again; the tests run there; what was
installed and how pytest ended is printed. Outside the gate: what it finds depends on the day. Without arguments for
pytest it is the whole suite, as in ``python -m tests``. ``--python`` names another interpreter. Exit code: pytest's, 3
when the versions cannot be installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.__main__ import AT_ONCE, ROOT
from tests.lock import requirements

UV = (sys.executable, "-m", "uv", "--no-config")
RESOLUTIONS = {"newest": "highest", "lowest": "lowest-direct"}


def install(python: Path, resolution: str) -> str:
    """Install what pyproject.toml asks for into the environment of ``python``; return the versions, a line each.

    Raises SystemExit with uv's reason.
    """
    into = ("--python", str(python), "--quiet")
    project = ("--no-deps", "--editable", str(ROOT))
    for words in (("--resolution", resolution, *requirements("consumers", "archive", "postgresql", "test")), project):
        done = subprocess.run(
            [*UV, "pip", "install", *into, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"the {resolution} versions cannot be installed\n{done.stderr}", file=sys.stderr)
            raise SystemExit(3)
    freeze = [*UV, "pip", "freeze", "--python", str(python), "--exclude-editable"]
    return subprocess.run(freeze, capture_output=True, text=True, check=True).stdout


def main(words: list[str] | None = None) -> int:
    """Install, run the tests, print what they ran with."""
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    for name in RESOLUTIONS:
        which.add_argument(f"--{name}", dest="which", action="store_const", const=name)
    parser.add_argument("--python", default=sys.executable, help="the interpreter; by default this one")
    options, arguments = parser.parse_known_args(words)
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        subprocess.run([*UV, "venv", "--quiet", "--python", options.python, str(environment)], check=True)
        python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        installed = install(python, RESOLUTIONS[options.which])
        print(f"== the {options.which} versions", installed, sep="\n", flush=True)
        code = subprocess.run([python, "-m", "pytest", *AT_ONCE, *arguments], cwd=ROOT, check=False).returncode
    print(f"== with the {options.which} versions pytest ended with code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
