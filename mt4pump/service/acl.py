r"""The root folder of all services, which nobody but the system and administrators may ever have written to.

Any user may make folders in ``C:\ProgramData``. One that was made beforehand stays its maker's, and so does its
content, whatever rights it is given later: settings that name a DLL, which would run as LocalSystem. So no folder is
taken over. One of an earlier installation is recognised by a secret in it that only administrators can read; its digest
is in the registry (``HKLM\SOFTWARE\mt4pump``, the view that 32- and 64-bit programs share), which only they can write.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mt4pump.service.nssm import Call, must
from mt4pump.service.plan import ServiceError, restrict

PROOF = "install.proof"
OWNER_ONLY = 0o700
"""Newer Pythons make a folder with this mode for its owner, the system and administrators alone, on Windows too."""
KEY = r"SOFTWARE\mt4pump"
NSSM_VALUE = "nssm"
"""Name of the registry value with NSSM's path; all others have the name of a root folder."""

if sys.platform == "win32":
    import winreg

    def read_value(name: str) -> str | None:
        """Return the registry value; None if there is none."""
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, KEY, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as key:
                return str(winreg.QueryValueEx(key, name)[0])
        except OSError:
            return None

    def write_value(name: str, text: str) -> None:
        """Set the registry value; raises ServiceError, always without administrator's rights."""
        access = winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY
        try:
            with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, KEY, 0, access) as key:
                winreg.SetValueEx(key, name, 0, winreg.REG_SZ, text)
        except OSError as error:
            cure = "installing needs an elevated prompt: Run as administrator"
            raise ServiceError(rf"HKLM\{KEY} cannot be written ({error.strerror}): {cure}") from error

else:  # there are no services

    def read_value(name: str) -> str | None:  # noqa: ARG001
        """Return nothing."""
        return None

    def write_value(name: str, text: str) -> None:
        """Keep nothing."""


def secure(root: Path, call: Call, settings: Sequence[Path]) -> None:
    """Make the folder, or check that it is of an earlier installation; ``settings`` may be in it.

    Raises ServiceError for one that somebody else may have made, and OSError.
    """
    if _is_ours(root):
        must(call, restrict(str(root)))
        return
    _refuse_foreign(root, settings)
    secret = secrets.token_hex()
    write_value(str(root), _digest(secret))  # first: without the rights to do so nothing is begun
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=OWNER_ONLY)
    must(call, restrict(str(root)))  # before a password can come into it
    if any(root.iterdir()):
        raise ServiceError(f"somebody wrote into {root} while it was made: see who, delete it, install again")
    (root / PROOF).write_text(secret, encoding="ascii")


def _is_ours(root: Path) -> bool:
    digest = read_value(str(root))
    try:
        if digest is None or _is_link(root):
            return False
        secret = (root / PROOF).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return _digest(secret) == digest


def _refuse_foreign(root: Path, settings: Sequence[Path]) -> None:
    try:
        root.rmdir()  # an empty one is made again, by us; of a junction only the link is removed
    except FileNotFoundError:
        pass
    except OSError as error:
        there = ", ".join(str(path) for path in settings if path.exists()) or "none"
        raise ServiceError(
            f"{root} was not made by mt4pump service install: any user may have made it, with settings that have a DLL "
            "of theirs run as LocalSystem. Move it away, install again, look at what was in it, and copy (do not "
            f"move) what is yours into the new one. Settings files in it: {there}"
        ) from error


def _is_link(path: Path) -> bool:
    found = os.lstat(path)
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_reparse_tag", 0))


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
