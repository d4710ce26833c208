"""Tokens and the topics that they allow: a file of hashed tokens, and JSON Web Tokens.

A file of tokens is TOML, one table per owner; the file has the SHA-256 of a token, never the token::

    [support]
    sha256 = "0bfe55d35a63f26abacd94d3367746a000d3248b24c357d45e71af26591e9240"
    topics = ["quote.*", "trade.*"]
    expires = 2027-01-01T00:00:00Z    # optional

``python -m mt4pump_consumers.gateway.new_token NAME TOPIC...`` makes one. It is 32 random bytes, so one round of
SHA-256 keeps it safe; do not put passwords that people chose into such a file.

The signature of a JSON Web Token is checked by PyJWT, its claims are checked here, so that each refusal has its reason.
Times are seconds since 1970 (RFC 7519, NumericDate). Clocks of issuers run ahead by seconds: ``iat`` and ``nbf`` may
lie ``leeway_s`` ahead of ours. ``exp`` has no leeway: a token that has expired stays expired.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mt4pump.client.topic_state import unmatched, whole_kind
from mt4pump.process.sources import line_of, table_lines, toml_and_text
from mt4pump_consumers.gateway.limits import LimitedLog
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.topics import CHECKED_LIMIT, Allowed, is_name

log = logging.getLogger(__name__)

TOKEN_LIMIT_BYTES = 16_384
BUSY = "too many connections with this token; close some"
WORDS = (
    *("", "test", "testing", "tester", "token", "tokens", "secret", "password", "passwd", "pass", "pw", "key"),
    *("apikey", "api-key", "api_key", "admin", "administrator", "root", "user", "guest", "demo", "example", "sample"),
    *("default", "changeme", "change-me", "change_me", "letmein", "welcome", "hello", "foo", "bar", "foobar", "baz"),
    *("qwerty", "abc", "abcd", "abcdef", "a", "x", "xxx", "mt4", "mt4pump", "metatrader", "gateway", "trading"),
    *("trader", "dealing-desk", "desk", "price-board", "dev", "local", "localhost", "none", "null", "bearer", "auth"),
    *("jwt", "support", "my-token", "mytoken", "my-secret", "mysecret", "test-token", "testtoken", "secret-token"),
    "supersecret",
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
            tables, text = toml_and_text(self.path)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or error
            cure = "make it with mt4pump_consumers.gateway.new_token, or correct tokens"
            raise BadKey(f"token file {self.path} cannot be read ({reason}); {cure}") from error
        grants = [self._grant(name, table, text) for name, table in tables.items()]
        self._grants = {grant.digest: grant for grant in grants}
        for grant in grants:
            for warning in unmatched(grant.topics):
                log.warning("%s: token of %s: %s", self.path, grant.name, warning)
        self._seen = seen  # only now: what could not be read for a moment must not pass for known
        return True

    def _grant(self, name: str, table: Any, text: str) -> Grant:
        line = next(iter(table_lines(name, text)), 0) or line_of(name, text)
        where = f"token file {self.path}{f' line {line}' if line else ''}, [{name}]"
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


SECRET_LEAST_BYTES = 32
"""RFC 7518, 3.2: a key of the hash's size or larger."""
LATEST_S = 253_402_300_800
"""The end of the year 9999; a time in milliseconds is later."""
INVALID = "token is not valid"
"""What a client receives as long as nobody has signed what it sent: the reason is in the log."""

REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (jwt.InvalidSignatureError, "its signature does not match the key"),
    (jwt.InvalidAlgorithmError, "its algorithm is not one that the key is for"),
    (jwt.InvalidAudienceError, "its aud is not the jwt-audience that is set"),
    (jwt.InvalidIssuerError, "its iss is not the jwt-issuer that is set"),
    (jwt.MissingRequiredClaimError, "it has no aud or no iss, and jwt-audience or jwt-issuer is set"),
    ((jwt.PyJWTError, RecursionError), "it is no JSON Web Token that can be read"),
)
"""The reason for each error of the library; the first that fits counts."""
UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, LookupError, RecursionError, OverflowError)
"""What the library raises for hostile tokens: half a surrogate pair, lists in place of texts, deep nesting."""


limited = LimitedLog(logging.getLogger(__name__))


class JwtVerifier:
    """JSON Web Tokens signed with a shared secret (HS256) or a private key whose public half is ``key``."""

    def __init__(self, key: Any, algorithms: list[str], settings: GatewaySettings) -> None:
        self._key, self._algorithms, self._settings = key, algorithms, settings

    @classmethod
    def of_secret(cls, secret: str, settings: GatewaySettings) -> JwtVerifier:
        """Return a verifier for HS256; raises BadKey for a secret that can be guessed."""
        if len(secret.encode()) < SECRET_LEAST_BYTES:
            raise BadKey(f"jwt secret is shorter than {SECRET_LEAST_BYTES} bytes; make one with `openssl rand -hex 32`")
        return cls(secret, ["HS256"], settings)

    @classmethod
    def of_public_key(cls, path: Path, settings: GatewaySettings) -> JwtVerifier:
        """Return a verifier for a public key in PEM; raises BadKey."""
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadKey(f"jwt public key {path} cannot be used ({error}); give a PEM file") from error
        return cls(key, algorithms_of(key), settings)

    def verify(self, token: str, now_s: float) -> Grant | None:
        """Return what the claims give, None for a text that is no JSON Web Token; raises TokenError."""
        if token.count(".") != 2:
            return None
        claims = self._signed_claims(token)
        expires_at_s = check_times(claims, now_s, self._settings.jwt_leeway_s)
        topics = topics_of(claims.get(self._settings.jwt_claim))
        if topics is None:
            raise TokenError(f"token has no claim {self._settings.jwt_claim} with a list of topics")
        subject = subject_of(claims)
        for warning in unmatched(topics[:CHECKED_LIMIT]):
            limited.write(logging.WARNING, "JSON Web Token of %r: %s", subject or "nobody", warning)
        owner = f"sub {subject}" if subject else f"jwt {digest_of(token)[:16]}"
        return Grant(subject or "jwt", topics, expires_at_s, owner=owner)

    def _signed_claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token with a good signature, audience and issuer; raises TokenError."""
        audience, issuer = self._settings.jwt_audience, self._settings.jwt_issuer
        options: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "sub", "jti")}
        options["verify_aud"] = audience is not None
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token, self._key, algorithms=self._algorithms, audience=audience, issuer=issuer, options=options
            )
        except UNREADABLE as error:
            reason = next((text for kind, text in REASONS if isinstance(error, kind)), "it cannot be read")
            raise TokenError(INVALID, reason) from None
        return claims

    def holds(self, grant: Grant) -> bool:  # noqa: ARG002
        """Return True: what was signed stays signed."""
        return True


def check_times(claims: Mapping[str, Any], now_s: float, leeway_s: float) -> float:
    """Return ``exp``; raises TokenError for times that are none, for a token that has expired or is not valid yet."""
    expires_at_s = time_of(claims, "exp")
    if expires_at_s is None:
        raise TokenError("token has no exp: it must say when it expires, in seconds since 1970")
    for name in ("nbf", "iat"):
        from_s = time_of(claims, name)
        if from_s is not None and from_s > now_s + leeway_s:
            ahead_s = f"{name} is {from_s - now_s:.0f} s ahead of the gateway's clock, and jwt-leeway-s is {leeway_s:g}"
            raise TokenError("token is not valid yet: check the clock of its issuer", ahead_s)
    if expires_at_s <= now_s:
        raise TokenError("token has expired", f"exp was {now_s - expires_at_s:.0f} s ago")
    return expires_at_s


def time_of(claims: Mapping[str, Any], name: str) -> float | None:
    """Return the time in the claim ``name``, None without one; raises TokenError for what is no time."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenError(f"token's {name} is not a number: it must be seconds since 1970")
    if isinstance(value, float) and not math.isfinite(value):
        raise TokenError(f"token's {name} is not a finite number: it must be seconds since 1970")
    if value < 0:
        raise TokenError(f"token's {name} is negative: it must be seconds since 1970")
    if value >= LATEST_S:
        raise TokenError(f"token's {name} is after the year 9999: it must be seconds since 1970, not milliseconds")
    return float(value)


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return whom the token is of, at most 100 characters; issuers write numbers, too. Empty where it names nobody."""
    subject = claims.get("sub")
    return str(subject)[:100] if isinstance(subject, str | int | float) and not isinstance(subject, bool) else ""


def algorithms_of(key: object) -> list[str]:
    """Return the algorithms that fit a public key; never one that takes it for a secret."""
    if isinstance(key, rsa.RSAPublicKey):
        return ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
    if isinstance(key, ec.EllipticCurvePublicKey):
        return ["ES256", "ES384", "ES512"]
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return ["EdDSA"]
    raise BadKey("jwt public key is of a kind that JSON Web Tokens are not signed with; use RSA, EC or Ed25519")
