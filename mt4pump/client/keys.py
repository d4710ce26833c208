"""The CURVE keys of a client, and the sockets that use them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from mt4pump.errors import ClientError
from mt4pump.private_files import changeable_by_others

KEY_CHARS = 40
FILE_CHARS_MAX = 65_536
"""What a file of keys never reaches."""
ZmqContext = zmq.Context[zmq.Socket[bytes]]
LINE = re.compile(r"""^\s*([a-z_-]+)\s*=\s*["']([^"']*)["']\s*(?:#.*)?$""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """Our key pair and the daemon's public key, each as 40 characters of Z85. ``secret`` is never shown.

    Raises ClientError (``keys``) for a key that is none.
    """

    public: str
    secret: str = field(repr=False)
    server: str

    def __post_init__(self) -> None:
        for name in ("public", "secret", "server"):
            if len(getattr(self, name)) != KEY_CHARS:
                raise ClientError("keys", f"the {name} key is not 40 characters of Z85: make keys with mt4pump keygen")

    @classmethod
    def load(cls, path: str | Path, server: str | Path | None = None) -> ClientKeys:
        """Return the keys in the file at ``path``: ``public_key``, ``secret_key`` and, unless given, ``server_key``.

        That is what ``mt4pump keygen client`` writes (``NAME.client``). ``server`` is the daemon's public key, or the
        file that holds it as ``public_key`` (``server.key``). CZMQ certificates, which write ``public-key``, will do,
        too. Raises ClientError (``keys``).
        """
        values = _values(Path(path))
        if server is None:
            key = values.get("server_key", "")
        elif isinstance(server, str) and len(server) == KEY_CHARS and not Path(server).exists():
            key = server
        else:
            key = _values(Path(server)).get("public_key", "")
        if not key:
            raise ClientError("keys", f"{path} has no server_key: add it, or give the daemon's public key as `server`")
        missing = [name for name in ("public_key", "secret_key") if not values.get(name)]
        if missing:
            raise ClientError("keys", f"{path} has no {' and no '.join(missing)}: is it the secret half of the pair?")
        return cls(values["public_key"], values["secret_key"], key)

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Make ``socket`` a CURVE client."""
        socket.curve_serverkey = self.server.encode()
        socket.curve_publickey = self.public.encode()
        socket.curve_secretkey = self.secret.encode()


def client_socket(context: ZmqContext, kind: int, endpoint: str, keys: ClientKeys | None) -> zmq.Socket[bytes]:
    """Return a socket of this ``kind`` that can connect to ``endpoint``; its queue is dropped when it is closed."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, 1 if "[" in endpoint else 0)
    if keys is not None:
        keys.apply(socket)
    return socket


def _values(path: Path) -> dict[str, str]:
    if fault := changeable_by_others(path):
        raise ClientError("keys", f"key file {path} is not used: {fault}")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(FILE_CHARS_MAX)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        text = f"key file {path} cannot be read ({reason}); make it with mt4pump keygen client, or correct the path"
        raise ClientError("keys", text) from error
    return {name.replace("-", "_"): value for name, value in LINE.findall(text)}
