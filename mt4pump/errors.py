"""Every error mt4pump raises on purpose.

::

    PumpError
    ├── SettingsError                settings are wrong: exit code 2
    │   ├── KeyFileError             a file of keys cannot be used (in `security`)
    │   └── PermissionsError         permissions of a client cannot be enforced as written (in `security`)
    ├── StartError                   cannot start (library, address, data folder): exit code 3
    │   ├── LibraryError             the DLL is missing, of the wrong word size, or is not a Manager API
    │   └── BindError                an address to publish on cannot be taken
    ├── ManagerError(call, code)     the Manager API returned a code that is not success
    │   ├── LoginError               refused: login, password, rights, licence; a retry will not help by itself
    │   └── ConnectionLost           the session is gone, or was closed by us
    ├── HangError                    a thread hangs: the daemon ends, so that it is restarted
    ├── ClientError(code)            a wrong call of the client, or the daemon refused a query
    │   └── QueryError               the query endpoint refused, or did not answer (in `client`)
    ├── RequestError(code)           a request that gets only an error as its reply (in `query`)
    ├── LayoutError                  bytes or a layout that do not fit a record
    ├── FrameError                   a message that is not of this protocol
    ├── JournalError                 the journal cannot be read, or a page of it
    │   └── JournalFileError         a fault of its file that SQLite does not name (in `journal`)
    └── ServiceError                 NSSM failed (in `service`)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

EXIT_OK, EXIT_FAILED, EXIT_SETTINGS, EXIT_START = 0, 1, 2, 3
"""Exit codes of all programs: clean stop; anything else; settings or flags wrong; cannot start."""

CONSTRAINTS_PLACE = (
    "deploy/constraints.txt is in the folder of mt4pump's source. Elsewhere give the path of the file that came with "
    "the wheel, in its folder deploy. 32-bit Python on Windows needs constraints-win32.txt instead."
)
"""What every message adds that says to install something: an installed wheel has no such folder beside it."""


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "", spelled: Callable[[str], str] = str) -> str:
    """Return ``did you mean …?`` with the one of ``known`` that is most like ``word``; ``otherwise`` if none is.

    ``spelled`` makes the text to show of a known word.
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {spelled(near[0])}?" if near else otherwise


class PumpError(Exception):
    """Base of all errors raised by mt4pump."""


class SettingsError(PumpError):
    """The settings cannot be used; the text names each wrong one and what to write instead."""


class StartError(PumpError):
    """The daemon cannot start; the text says why and what to do."""


class LibraryError(StartError):
    """The vendor's library cannot be used: not found, wrong word size, or exports missing."""


class BindError(StartError):
    """An endpoint cannot be bound; the text names the address and, where known, the program that holds it."""


class ManagerError(PumpError):
    """A Manager API call failed.

    ``call`` is the method's name, ``code`` the RET_ number, ``name`` its constant (``RET_…``, or ``unknown``).
    """

    def __init__(self, call: str, code: int, name: str, description: str) -> None:
        super().__init__(f"{call}: {name} ({code}): {description}")
        self.call = call
        self.code = code
        self.name = name
        self.description = description


class LoginError(ManagerError):
    """The server refused the login; an immediate retry gets the account blocked."""


class ConnectionLost(ManagerError):
    """The session has ended."""


class HangError(PumpError):
    """A thread hangs; the text names the thread, the time and the place in the code."""


class LayoutError(PumpError):
    """Bytes do not have the length or form of their record, or a record's layout is wrong."""


class FrameError(PumpError):
    """A received message is not of this protocol."""


class ClientError(PumpError):
    """A client's request failed; the text says what to do.

    ``code`` is the daemon's own (``bad_request``, ``forbidden``, ``no_journal`` …), or ``timeout``, ``closed``,
    ``position``, ``keys``, ``arguments`` for what went wrong on this side.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class JournalError(PumpError):
    """The journal of durable events cannot be used; the text says which file, what happened and what to do."""
