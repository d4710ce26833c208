"""Every error mt4pump raises on purpose.

::

    PumpError
    ├── SettingsError                settings are wrong: exit code 2
    │   ├── KeyFileError             a file of keys cannot be used (in `security`)
    │   └── PermissionsError         what a client may hear cannot be enforced as written (in `security`)
    ├── StartError                   cannot start (library, address, data folder): exit code 3
    │   ├── LibraryError             the DLL is missing, of the wrong word size, or is not a Manager API
    │   └── BindError                an address to publish on cannot be taken
    ├── ManagerError(call, code)     the Manager API returned a code that is not success
    │   ├── LoginError               refused: login, password, rights, licence; a retry will not help by itself
    │   └── ConnectionLost           the session is gone, or was closed by us
    ├── HangError                    a thread hangs: the daemon ends, to be started again
    ├── ClientError(code)            the client was asked for what it cannot do, or the daemon refused a query
    ├── LayoutError                  bytes that are not the record they should be
    ├── FrameError                   a message on the wire that is not ours
    ├── JournalError                 the journal cannot be read, or a page of it
    └── ServiceError                 NSSM did not do what it was asked to (in `service`)
"""

from __future__ import annotations


class PumpError(Exception):
    """Base of all errors raised by mt4pump."""


class SettingsError(PumpError):
    """The settings cannot be used; the text names each one and what to write instead."""


class StartError(PumpError):
    """The daemon cannot start here; the text says what is in the way and what to do."""


class LibraryError(StartError):
    """The vendor's library cannot be used: not found, wrong word size, or exports missing."""


class BindError(StartError):
    """An endpoint cannot be bound; the text names the address and, where known, who holds it."""


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
    """The server refused us; trying again at once only gets the account blocked."""


class ConnectionLost(ManagerError):
    """There is no session any more."""


class HangError(PumpError):
    """A thread that must go on hangs; the text names it, for how long and where."""


class LayoutError(PumpError):
    """Bytes do not have the length or form of the record they are said to be."""


class FrameError(PumpError):
    """A received message is not a frame of this protocol."""


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
