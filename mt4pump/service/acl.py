r"""The folder of all services, made so that nobody but the system and administrators ever wrote into it.

Any user may make folders in ``C:\ProgramData``. One that was made beforehand stays its maker's, and so does what is in
it, whatever rights it is given later: settings that name a DLL, which would run as LocalSystem. So no folder is taken
over; one from an installation before is known by a secret in it that only administrators can read, as its digest is
noted where only they can write.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mt4pump.service import registry as notes
from mt4pump.service.commands import Call
from mt4pump.service.errors import ServiceError
from mt4pump.service.nssm import must
from mt4pump.service.plan import restrict

PROOF = "install.proof"
ONLY_US = 0o700
"""Newer Pythons make a folder with this mode for its owner, the system and administrators alone, on Windows too."""


def secure(root: Path, call: Call, settings: Sequence[Path]) -> None:
    """Make the folder, or see that it is from an installation before; ``settings`` may be in it.

    Raises ServiceError for one that somebody else may have made, and OSError.
    """
    if _is_ours(root):
        must(call, restrict(str(root)))
        return
    _refuse_anothers(root, settings)
    secret = secrets.token_hex()
    notes.write(str(root), _digest(secret))  # first: without the rights to do so nothing is begun
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=ONLY_US)
    must(call, restrict(str(root)))  # before a password can come into it
    if any(root.iterdir()):
        raise ServiceError(f"somebody wrote into {root} while it was made: see who, delete it, install again")
    (root / PROOF).write_text(secret, encoding="ascii")


def _is_ours(root: Path) -> bool:
    digest = notes.read(str(root))
    try:
        if digest is None or _is_link(root):
            return False
        secret = (root / PROOF).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return _digest(secret) == digest


def _refuse_anothers(root: Path, settings: Sequence[Path]) -> None:
    try:
        root.rmdir()  # an empty one is made anew, by us; of a junction only the link goes
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
