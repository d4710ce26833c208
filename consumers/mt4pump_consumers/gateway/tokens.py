"""Who is it, and what may he see: JSON Web Tokens, a file of hashed tokens, anonymous visitors.

A file of tokens is TOML, one table per owner; the token itself stands nowhere, only its SHA-256::

    [dealing-desk]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    topics = ["quote.*", "trade.*"]
    expires = 2027-01-01T00:00:00Z    # optional

``python -m mt4pump_consumers.gateway.new_token NAME TOPIC...`` makes one. It is 32 random bytes, so one round of
SHA-256 keeps it safe; do not put passwords that people chose into such a file.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mt4pump_consumers.gateway.topics import Allowed, is_name

SECRET_LEAST_BYTES = 32
"""RFC 7518, 3.2: a key of the hash's size or larger."""
TOKEN_LIMIT_BYTES = 16_384


class TokenError(Exception):
    """A token that lets nobody in; the text may be told to the client."""


class BadKey(Exception):
    """A key or token file that cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token gives. ``expires_at_s`` is since 1970, None: never; ``digest`` tells tokens of a file apart."""

    name: str
    topics: tuple[str, ...]
    expires_at_s: float | None = None
    digest: str = ""

    @property
    def allowed(self) -> Allowed:
        """Return the topics as what answers questions about them."""
        return _allowed(self.topics)


@lru_cache(maxsize=1024)
def _allowed(topics: tuple[str, ...]) -> Allowed:
    return Allowed(topics)


NOBODY = Grant("", ())


class Verifier(Protocol):
    """One way of knowing tokens."""

    def verify(self, token: str, now_s: float) -> Grant | None:
        """Return what ``token`` gives, None for a token of another make; raises TokenError for a bad one."""

    def holds(self, grant: Grant) -> bool:
        """Return whether ``grant`` is still good, its expiry aside."""


class JwtVerifier:
    """JSON Web Tokens signed with a shared secret (HS256) or a private key whose public half is ``key``."""

    def __init__(
        self, key: Any, algorithms: Sequence[str], claim: str, audience: str | None, issuer: str | None
    ) -> None:
        self._key, self._algorithms, self._claim = key, list(algorithms), claim
        self._audience, self._issuer = audience, issuer

    @classmethod
    def of_secret(cls, secret: str, claim: str, audience: str | None, issuer: str | None) -> JwtVerifier:
        """Return a verifier for HS256; raises BadKey for a secret that can be guessed."""
        if len(secret.encode()) < SECRET_LEAST_BYTES:
            raise BadKey(f"jwt secret is shorter than {SECRET_LEAST_BYTES} bytes; make one with `openssl rand -hex 32`")
        return cls(secret, ["HS256"], claim, audience, issuer)

    @classmethod
    def of_public_key(cls, path: Path, claim: str, audience: str | None, issuer: str | None) -> JwtVerifier:
        """Return a verifier for a public key in PEM; raises BadKey."""
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadKey(f"jwt public key {path} cannot be used ({error}); give a PEM file") from error
        return cls(key, algorithms_of(key), claim, audience, issuer)

    def verify(self, token: str, now_s: float) -> Grant | None:  # noqa: ARG002 - PyJWT has its own clock
        """Return what the claims give; raises TokenError."""
        if token.count(".") != 2:
            return None
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["exp"], "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise TokenError("token has expired") from None
        except (jwt.PyJWTError, ValueError):  # ValueError: text that is not even Unicode, as half a surrogate pair
            raise TokenError("token is not valid") from None
        topics = topics_of(claims.get(self._claim))
        if topics is None:
            raise TokenError(f"token has no claim {self._claim} with a list of topics")
        return Grant(str(claims.get("sub", "jwt"))[:100], topics, float(claims["exp"]))

    def holds(self, grant: Grant) -> bool:  # noqa: ARG002
        """Return True: what was signed stays signed."""
        return True


def algorithms_of(key: object) -> list[str]:
    """Return the algorithms that fit a public key; never one that takes it for a secret."""
    if isinstance(key, rsa.RSAPublicKey):
        return ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
    if isinstance(key, ec.EllipticCurvePublicKey):
        return ["ES256", "ES384", "ES512"]
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return ["EdDSA"]
    raise BadKey("jwt public key is of a kind that JSON Web Tokens are not signed with; use RSA, EC or Ed25519")


def topics_of(value: object) -> tuple[str, ...] | None:
    """Return topics from a claim or a file: a list, or names parted by spaces; None for anything else."""
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not all(is_name(topic) for topic in value):
        return None
    return tuple(value)


class TokenFile:
    """The file of hashed tokens; `reload` takes over what changed in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] = (0, 0)
        self._grants: dict[str, Grant] = {}
        self.reload()

    def reload(self) -> bool:
        """Read the file if it changed; return whether it did.

        Raises BadKey, and then nothing changes and the file is read again the next time.
        """
        try:
            now = self.path.stat()
            seen = (now.st_mtime_ns, now.st_size)
            if seen == self._seen:
                return False
            tables = tomllib.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadKey(f"token file {self.path} cannot be read: {error}") from error
        grants = [self._grant(name, table) for name, table in tables.items()]
        self._grants = {grant.digest: grant for grant in grants}
        self._seen = seen  # only now: what could not be read for a moment must not pass for known
        return True

    def _grant(self, name: str, table: Any) -> Grant:
        where = f"token file {self.path}, [{name}]"
        if not isinstance(table, Mapping):
            raise BadKey(f"{where}: must be a table with sha256 and topics")
        digest, topics, expires = table.get("sha256"), topics_of(table.get("topics")), table.get("expires")
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest.lower()) <= set("0123456789abcdef"):
            raise BadKey(f"{where}: sha256 must be 64 hexadecimal digits; new_token makes them")
        if topics is None:
            raise BadKey(f"{where}: topics must be a list as ['quote.*']")
        if expires is not None and not isinstance(expires, datetime):
            raise BadKey(f"{where}: expires must be a time as 2027-01-01T00:00:00Z")
        if unknown := set(table) - {"sha256", "topics", "expires"}:
            raise BadKey(f"{where}: {', '.join(sorted(unknown))} means nothing; known are sha256, topics, expires")
        return Grant(name, topics, timestamp(expires), digest.lower())

    def verify(self, token: str, now_s: float) -> Grant | None:
        """Return what the token gives, None for one that is not in the file; raises TokenError for an expired one."""
        grant = self._grants.get(digest_of(token))
        if grant is not None and grant.expires_at_s is not None and grant.expires_at_s <= now_s:
            raise TokenError("token has expired")
        return grant

    def holds(self, grant: Grant) -> bool:
        """Return whether the token is in the file and gives the same as before."""
        return not grant.digest or self._grants.get(grant.digest) == grant


def digest_of(token: str) -> str:
    """Return what stands in the file for ``token``."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def timestamp(time: datetime | None) -> float | None:
    """Return seconds since 1970; a time without zone is UTC."""
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def verify(verifiers: Sequence[Verifier], token: str, now_s: float) -> Grant:
    """Return what ``token`` gives by the first verifier that knows it; raises TokenError."""
    if len(token) <= TOKEN_LIMIT_BYTES:
        for verifier in verifiers:
            if (grant := verifier.verify(token, now_s)) is not None:
                return grant
    raise TokenError("token is not valid")
