r"""What installations leave for later ones where every user can read and only administrators write: the registry.

Names and texts below ``HKLM\SOFTWARE\mt4pump``, in the view that 32- and 64-bit programs share. Not on Windows there
are no services and no notes.
"""

from __future__ import annotations

import sys

from mt4pump.service.errors import ServiceError

KEY = r"SOFTWARE\mt4pump"
NSSM = "nssm"
"""Name of the note that says where NSSM is; all others have the name of a root folder (see `root_folder`)."""

if sys.platform == "win32":
    import winreg

    def read(name: str) -> str | None:
        """Return what `write` kept; None if there is nothing."""
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, KEY, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as key:
                return str(winreg.QueryValueEx(key, name)[0])
        except OSError:
            return None

    def write(name: str, text: str) -> None:
        """Keep a text; raises ServiceError, which without administrator's rights is sure."""
        access = winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY
        try:
            with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, KEY, 0, access) as key:
                winreg.SetValueEx(key, name, 0, winreg.REG_SZ, text)
        except OSError as error:
            cure = "installing needs an elevated prompt: Run as administrator"
            raise ServiceError(rf"HKLM\{KEY} cannot be written ({error.strerror}): {cure}") from error

else:

    def read(name: str) -> str | None:  # noqa: ARG001
        """Return nothing."""
        return None

    def write(name: str, text: str) -> None:
        """Keep nothing."""
