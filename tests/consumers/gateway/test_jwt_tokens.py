"""JSON Web Tokens as other people's issuers make them: what is refused has a reason, in the log and for the client."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging

import pytest
from mt4pump_consumers.gateway import tokens
from mt4pump_consumers.gateway.limits import LINES, LimitedLog
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import Grant, JwtVerifier, TokenError, verify

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests alone
NOW_S = 1_800_000_000.0
MS = int((NOW_S + 600) * 1000)


def signed(claims: str, header: str = '{"alg": "HS256"}', secret: str = SECRET) -> str:
    """Return a token with any text for claims, also such that no library would sign."""
    parts = [base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in (header, claims)]
    mac = hmac.new(secret.encode(), b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def token(**claims: object) -> str:
    return signed(json.dumps({"sub": "support", "topics": ["quote.*"], "exp": NOW_S + 600, **claims}))


def granted(text: str, leeway_s: float = 30.0) -> Grant:
    settings = GatewaySettings(anonymous=True, jwt_leeway_s=leeway_s)
    return verify([JwtVerifier.of_secret(SECRET, settings)], text, NOW_S)


def refused(text: str, leeway_s: float = 30.0) -> TokenError:
    with pytest.raises(TokenError) as caught:
        granted(text, leeway_s)
    return caught.value


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_clock_that_is_seconds_ahead_is_believed_within_the_leeway(claim: str) -> None:
    for ahead_s in (-5, 0, 2, 30):
        assert granted(token(**{claim: NOW_S + ahead_s})).name == "support"
    error = refused(token(**{claim: NOW_S + 31}))
    assert str(error) == "token is not valid yet: check the clock of its issuer"
    assert error.reason == f"{claim} is 31 s ahead of the gateway's clock, and jwt-leeway-s is 30"
    assert refused(token(**{claim: NOW_S + 1}), leeway_s=0).reason.startswith(f"{claim} is 1 s ahead")


def test_what_has_expired_stays_expired_whatever_the_leeway() -> None:
    error = refused(token(exp=NOW_S - 1))
    assert (str(error), error.reason) == ("token has expired", "exp was 1 s ago")


@pytest.mark.parametrize(
    ("subject", "name", "owner"),
    [
        ("7", "7", "sub 7"),
        ("42", "42", "sub 42"),
        ('"support"', "support", "sub support"),
        ("4.5", "4.5", "sub 4.5"),
        ("null", "jwt", "jwt "),
        ("[1]", "jwt", "jwt "),
        ("true", "jwt", "jwt "),
        ('"' + "x" * 500 + '"', "x" * 100, "sub " + "x" * 100),
        ("1" + "0" * 400, "1" + "0" * 99, "sub 1"),
    ],
)
def test_a_subject_may_be_a_number_and_names_who_answers_for_the_work(subject: str, name: str, owner: str) -> None:
    grant = granted(signed(f'{{"sub": {subject}, "topics": ["quote.*"], "exp": {NOW_S + 600}}}'))
    assert grant.name == name
    assert grant.owner.startswith(owner)


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (str(MS), "after the year 9999"),
        ("1" + "0" * 400, "after the year 9999"),
        ("1e300", "after the year 9999"),
        ("1e400", "not a finite number"),
        ("Infinity", "not a finite number"),
        ("NaN", "not a finite number"),
        ("-1", "negative"),
        ("-1" + "0" * 400, "negative"),
        (f'"{int(NOW_S + 600)}"', "not a number"),
        ('"tomorrow"', "not a number"),
        ("true", "not a number"),
        ("[]", "not a number"),
        ("{}", "not a number"),
    ],
)
def test_absurd_times_are_refused_in_plain_words(claim: str, value: str, words: str) -> None:
    claims = {"topics": '["quote.*"]', "exp": str(NOW_S + 600), claim: value}
    text = ", ".join(f'"{name}": {text}' for name, text in claims.items())
    error = refused(signed(f"{{{text}}}"))
    assert str(error).startswith(f"token's {claim} is ")
    assert words in str(error)
    assert "seconds since 1970" in str(error)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (signed("{}", secret="another secret that is long enough"), "signature"),  # noqa: S106
        (signed("{}", '{"alg": "none"}'), "algorithm"),
        (signed("{}", '{"alg": "HS512"}'), "algorithm"),
        (signed("{}", '{"alg": ["HS256"]}'), "algorithm"),
        (signed("{}", "[" * 5000 + "]" * 5000), "it "),
        (signed("{}", '{"alg": "HS256", "x": ' + "[" * 3000 + "]" * 3000 + "}"), "it "),
        (signed('{"exp": 1, "x": ' + "[" * 3000 + "]" * 3000 + "}"), "it is no JSON Web Token"),
        (signed('{"exp": 1' + "0" * 9000 + "}"), "it is no JSON Web Token"),
        (signed("[]"), "it is no JSON Web Token"),
        (signed("{}", '{"alg": "HS256", "kid": 7}'), "it is no JSON Web Token"),
        ("\ud800.a.b", "it "),
        ("a.b.c", "it is no JSON Web Token"),
        ("..", "it is no JSON Web Token"),
        ("no token at all", "not in the file"),
        ("x" * 100_000, "longer than"),
    ],
)
def test_what_nobody_signed_is_refused_with_the_reason_in_the_log_alone(text: str, reason: str) -> None:
    error = refused(text)
    assert str(error) == "token is not valid"
    assert reason in error.reason
    assert text[:20] not in error.reason


def test_a_signed_token_without_an_end_or_without_topics_says_what_is_missing() -> None:
    assert "no exp" in str(refused(token(exp=None)))
    assert "no claim topics" in str(refused(signed(f'{{"scope": "quote.*", "exp": {NOW_S + 600}}}')))


def test_topics_of_a_token_that_can_match_nothing_are_logged_and_their_number_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tokens, "limited", LimitedLog(logging.getLogger("tokens"), lambda: 0.0))
    assert granted(token(topics=["quote", "trade.*"])).topics == ("quote", "trade.*")
    text = "topic 'quote' can match nothing that a daemon publishes; did you mean 'quote.*'?"
    assert caplog.messages == [f"JSON Web Token of 'support': {text}"]
    for _ in range(2 * LINES):
        granted(token(topics=["quote"]))
    assert len(caplog.messages) == LINES
    caplog.clear()
    granted(token(topics=["quote.*"]))
    assert caplog.messages == []
