"""Tokens and the topics that they allow: a file of hashed tokens, and what all kinds of tokens share.

A file of tokens is TOML, one table per owner; the file has the SHA-256 of a token, never the token::

    [dealing-desk]
    sha256 = "0bfe55d35a63f26abacd94d3367746a000d3248b24c357d45e71af26591e9240"
    topics = ["quote.*", "trade.*"]
    expires = 2027-01-01T00:00:00Z    # optional

``python -m mt4pump_consumers.gateway.new_token NAME TOPIC...`` makes one. It is 32 random bytes, so one round of
SHA-256 keeps it safe; do not put passwords that people chose into such a file.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from mt4pump.client.topic_state import unmatched, whole_kind
from mt4pump.process.sources import read_toml
from mt4pump_consumers.gateway.topics import Allowed, is_name

log = logging.getLogger(__name__)

TOKEN_LIMIT_BYTES = 16_384
BUSY = "too many connections with this token; close some"
WORDS = (
    *(
        "",
        "test",
        "testing",
        "tester",
        "token",
        "tokens",
        "secret",
        "password",
        "passwd",
        "pass",
        "pw",
        "key",
        "apikey",
    ),
    *("api-key", "api_key", "admin", "administrator", "root", "user", "guest", "demo", "example", "sample", "default"),
    *("changeme", "change-me", "change_me", "letmein", "welcome", "hello", "foo", "bar", "foobar", "baz", "qwerty"),
    *("abc", "abcd", "abcdef", "a", "x", "xxx", "mt4", "mt4pump", "metatrader", "gateway", "trading", "trader"),
    *("dealing-desk", "desk", "price-board", "dev", "local", "localhost", "none", "null", "bearer", "auth", "jwt"),
    *("my-token", "mytoken", "my-secret", "mysecret", "test-token", "testtoken", "secret-token", "supersecret"),
)
ENDINGS = ("", *(str(number) for number in range(11)), "12", "123", "1234", "12345", "123456", "1234567", "12345678")
"""Appended to each of `WORDS` in `well_known_digests`; with the empty word these are plain numbers."""


class TokenError(Exception):
    """A refused token. The text is for the client, ``reason`` for the log; neither quotes the token."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason or text


class BadKey(Exception):
    """A key or token file that cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token gives. ``expires_at_s`` is since 1970, None: never; ``digest`` identifies a token of a file.

    ``owner`` names who answers for the work that connections with it cause; empty: the address does.
    """

    name: str
    topics: tuple[str, ...]
    expires_at_s: float | None = None
    digest: str = ""
    owner: str = ""

    @property
    def allowed(self) -> Allowed:
        """Return the topics, compiled."""
        return _allowed(self.topics)


@lru_cache(maxsize=1024)
def _allowed(topics: tuple[str, ...]) -> Allowed:
    return Allowed(topics)


NOBODY = Grant("", ())


class Verifier(Protocol):
    """One method to verify tokens."""

    def verify(self, token: str, now_s: float) -> Grant | None:
        """Return the grant of ``token``, None for a token of another kind; raises TokenError."""

    def holds(self, grant: Grant) -> bool:
        """Return whether ``grant`` is still valid, its expiry aside."""


def topics_of(value: object) -> tuple[str, ...] | None:
    """Return topics from a claim or a file: a list, or names parted by spaces; None for anything else."""
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not all(is_name(topic) for topic in value):
        return None
    return tuple(map(whole_kind, value))


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
            tables = read_toml(self.path)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or error
            text = f"token file {self.path} cannot be read ({reason}); make it with mt4pump_consumers.gateway.new_token"
            raise BadKey(f"{text}, or correct tokens") from error
        grants = [self._grant(name, table) for name, table in tables.items()]
        self._grants = {grant.digest: grant for grant in grants}
        for grant in grants:
            for warning in unmatched(grant.topics):
                log.warning("%s: token of %s: %s", self.path, grant.name, warning)
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
        if digest.lower() in well_known_digests():
            raise BadKey(f"{where}: sha256 is of a word that everybody would try; make a token with new_token")
        return Grant(name, topics, timestamp(expires), digest.lower(), f"token {digest.lower()[:16]}")

    def verify(self, token: str, now_s: float) -> Grant | None:
        """Return what the token gives, None for one that is not in the file; raises TokenError for an expired one."""
        grant = self._grants.get(digest_of(token))
        if grant is not None and grant.expires_at_s is not None and grant.expires_at_s <= now_s:
            raise TokenError("token has expired", f"the token of {grant.name} in {self.path} has expired")
        return grant

    def holds(self, grant: Grant) -> bool:
        """Return whether the token is in the file and gives the same as before."""
        return not grant.digest or self._grants.get(grant.digest) == grant


def digest_of(token: str) -> str:
    """Return the digest that the file has for ``token``."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@lru_cache(maxsize=1)
def well_known_digests() -> frozenset[str]:
    """Return the digests of words that people take for a first try, and of the same words with a line end behind."""
    words = {word + end for word in WORDS for end in ENDINGS}
    spelled = {form for word in words for form in (word, word.upper(), word.capitalize())}
    return frozenset(digest_of(form + line_end) for form in spelled for line_end in ("", "\n", "\r\n"))


def timestamp(time: datetime | None) -> float | None:
    """Return seconds since 1970; a time without zone is UTC."""
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def verify(verifiers: Sequence[Verifier], token: str, now_s: float) -> Grant:
    """Return what ``token`` gives by the first verifier that knows it; raises TokenError."""
    if len(token) > TOKEN_LIMIT_BYTES:
        raise TokenError("token is not valid", f"it is longer than {TOKEN_LIMIT_BYTES} characters")
    for verifier in verifiers:
        if (grant := verifier.verify(token, now_s)) is not None:
            return grant
    raise TokenError("token is not valid", "it is not in the file of tokens, and it is no JSON Web Token")
