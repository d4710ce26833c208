"""JSON Web Tokens: the signature is PyJWT's, the claims are checked here, so that each refusal has its reason.

Times are seconds since 1970 (RFC 7519, NumericDate). Clocks of issuers run ahead by seconds: ``iat`` and ``nbf`` may
lie ``leeway_s`` ahead of ours. ``exp`` has no leeway: a token that has expired stays expired.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mt4pump.client.topic_state import unmatched
from mt4pump_consumers.gateway.limits import LimitedLog
from mt4pump_consumers.gateway.protocol import CHECKED_LIMIT
from mt4pump_consumers.gateway.tokens import BadKey, Grant, TokenError, digest_of, topics_of

SECRET_LEAST_BYTES = 32
"""RFC 7518, 3.2: a key of the hash's size or larger."""
LEEWAY_S = 30.0
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

    def __init__(  # noqa: PLR0917 - the settings of one kind of token
        self,
        key: Any,
        algorithms: Sequence[str],
        claim: str,
        audience: str | None,
        issuer: str | None,
        leeway_s: float = LEEWAY_S,
    ) -> None:
        self._key, self._algorithms, self._claim = key, list(algorithms), claim
        self._audience, self._issuer, self._leeway_s = audience, issuer, leeway_s

    @classmethod
    def of_secret(
        cls, secret: str, claim: str, audience: str | None, issuer: str | None, leeway_s: float = LEEWAY_S
    ) -> JwtVerifier:
        """Return a verifier for HS256; raises BadKey for a secret that can be guessed."""
        if len(secret.encode()) < SECRET_LEAST_BYTES:
            raise BadKey(f"jwt secret is shorter than {SECRET_LEAST_BYTES} bytes; make one with `openssl rand -hex 32`")
        return cls(secret, ["HS256"], claim, audience, issuer, leeway_s)

    @classmethod
    def of_public_key(
        cls, path: Path, claim: str, audience: str | None, issuer: str | None, leeway_s: float = LEEWAY_S
    ) -> JwtVerifier:
        """Return a verifier for a public key in PEM; raises BadKey."""
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadKey(f"jwt public key {path} cannot be used ({error}); give a PEM file") from error
        return cls(key, algorithms_of(key), claim, audience, issuer, leeway_s)

    def verify(self, token: str, now_s: float) -> Grant | None:
        """Return what the claims give, None for a text that is no JSON Web Token; raises TokenError."""
        if token.count(".") != 2:
            return None
        claims = self._signed_claims(token)
        expires_at_s = check_times(claims, now_s, self._leeway_s)
        topics = topics_of(claims.get(self._claim))
        if topics is None:
            raise TokenError(f"token has no claim {self._claim} with a list of topics")
        subject = subject_of(claims)
        for warning in unmatched(topics[:CHECKED_LIMIT]):
            limited.write(logging.WARNING, "JSON Web Token of %r: %s", subject or "nobody", warning)
        owner = f"sub {subject}" if subject else f"jwt {digest_of(token)[:16]}"
        return Grant(subject or "jwt", topics, expires_at_s, owner=owner)

    def _signed_claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token with a good signature, audience and issuer; raises TokenError."""
        options: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "sub", "jti")}
        options["verify_aud"] = self._audience is not None
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                options=options,
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
