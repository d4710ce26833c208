"""Tokens that let in, and those that do not."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from mt4pump_consumers.gateway import new_token
from mt4pump_consumers.gateway.settings import GatewaySettings
from mt4pump_consumers.gateway.tokens import (
    NOBODY,
    BadKey,
    Grant,
    JwtVerifier,
    TokenError,
    TokenFile,
    digest_of,
    verify,
)

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests alone
SETTINGS = GatewaySettings(anonymous=True)


def token(key: object = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"exp": time.time() + 60, "topics": ["quote.*"], **claims}, key, algorithm)  # type: ignore[arg-type]


def test_a_signed_token_gives_its_topics_until_it_expires() -> None:
    expires_at_s = int(time.time()) + 60
    grant = verify([JwtVerifier.of_secret(SECRET, SETTINGS)], token(sub="support", exp=expires_at_s), time.time())
    assert (grant.name, grant.topics, grant.expires_at_s) == ("support", ("quote.*",), expires_at_s)


def test_the_topics_may_stand_in_a_claim_of_another_name() -> None:
    settings = GatewaySettings(anonymous=True, jwt_claim="mt4")
    grant = verify([JwtVerifier.of_secret(SECRET, settings)], token(mt4=["trade.7"]), time.time())
    assert grant.topics == ("trade.7",)


@pytest.mark.parametrize(
    "bad",
    [
        token(exp=time.time() - 60),
        token("another secret that is long enough"),
        token(topics=None),
        token(topics=[1]),
        jwt.encode({"topics": ["*"]}, SECRET, "HS256"),
        jwt.encode({"exp": time.time() + 60, "topics": ["*"]}, None, "none"),  # type: ignore[arg-type]
        "no token at all",
        "a.b.c",
        "x" * 100_000,
        "\ud800.a.b",
    ],
    ids=(
        *("expired", "other secret", "no topics", "numbers", "no end", "unsigned"),
        *("no token", "three parts", "long", "half a surrogate pair"),
    ),
)
def test_other_tokens_let_nobody_in(bad: str) -> None:
    with pytest.raises(TokenError):
        verify([JwtVerifier.of_secret(SECRET, SETTINGS)], bad, time.time())


@pytest.mark.parametrize(("made", "algorithm"), [("rsa", "RS256"), ("ec", "ES256")])
def test_a_public_key_checks_what_its_private_half_signed_and_is_no_secret(
    tmp_path: Path, made: str, algorithm: str
) -> None:
    private = rsa.generate_private_key(65537, 2048) if made == "rsa" else ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path = tmp_path / "key.pem"
    path.write_bytes(public)
    verifier = JwtVerifier.of_public_key(path, SETTINGS)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert verify([verifier], token(pem, algorithm), time.time()).topics == ("quote.*",)
    with pytest.raises(TokenError):  # the public key taken for an HS256 secret, which anybody could sign with
        verify([verifier], token(SECRET), time.time())


def test_audience_and_issuer_must_fit_where_they_are_set() -> None:
    verifier = JwtVerifier.of_secret(
        SECRET, SETTINGS.model_copy(update={"jwt_audience": "gateway", "jwt_issuer": "broker"})
    )
    assert verify([verifier], token(aud="gateway", iss="broker"), time.time())
    for claims in ({}, {"aud": "gateway"}, {"aud": "other", "iss": "broker"}):
        with pytest.raises(TokenError):
            verify([verifier], token(**claims), time.time())


def test_keys_that_are_of_no_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadKey, match="32 bytes"):
        JwtVerifier.of_secret("short", SETTINGS)
    with pytest.raises(BadKey, match="PEM"):
        JwtVerifier.of_public_key(tmp_path / "none.pem", SETTINGS)


def test_a_new_token_works_and_stands_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new_token.run(["support 1", "quote.*", "trade.7"]) == 0
    entry, published = capsys.readouterr()
    secret = published.strip().rpartition(" ")[2]
    assert secret not in entry
    path = tmp_path / "tokens.toml"
    path.write_text(entry)
    file = TokenFile(path)
    grant = verify([file], secret, time.time())
    assert (grant.name, grant.topics) == ("support 1", ("quote.*", "trade.7"))
    path.write_text("")
    assert file.reload()
    assert not file.holds(grant)
    with pytest.raises(TokenError):
        verify([file], secret, time.time())


def test_a_token_file_ends_no_grant_that_came_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text("")
    file = TokenFile(path)
    assert all(map(file.holds, (NOBODY, Grant("of a JWT", ("*",), 2e9))))


def test_a_token_of_the_file_can_expire(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_token.run(["support", "*"])
    entry, published = capsys.readouterr()
    (tmp_path / "tokens.toml").write_text(entry + "expires = 2020-01-01T00:00:00Z\n")
    with pytest.raises(TokenError, match="expired"):
        verify([TokenFile(tmp_path / "tokens.toml")], published.strip().rpartition(" ")[2], time.time())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x\n", r"tokens\.toml is not TOML at line 1"),
        ("\na = 1", r"tokens\.toml line 2, \[a\]"),
        ('[a]\nsha256 = "12"\ntopics = ["*"]', r"tokens\.toml line 1, \[a\]"),
        (f'# b\n\n["b.c"] # b\nsha256 = "{"0" * 64}"', r"tokens\.toml line 3, \[b\.c\]"),
        (f'[a]\nsha256 = "{"0" * 64}"\ntopics = ["*"]\nrole = 1', r"tokens\.toml line 1, \[a\]"),
    ],
)
def test_a_token_file_with_a_mistake_is_refused_whole_with_the_line(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(BadKey, match=place):
        TokenFile(path)


def test_a_token_file_that_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[one]\nsha256 = "{digest_of("one")}"\ntopics = ["*"]\n')
    file = TokenFile(path)
    path.write_text("")  # the token is withdrawn

    def refuse(*_arguments: object) -> str:
        raise PermissionError(13, "another program has it open")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(BadKey, match="another program"):
            file.reload()
        assert verify([file], "one", time.time()).name == "one"
    assert file.reload()
    assert not file.reload()
    with pytest.raises(TokenError):
        verify([file], "one", time.time())


@pytest.mark.parametrize(
    "word", ["", "test", "test2", "Test", "TEST", "test\n", "token", "secret", "password123", "12345678", "changeme"]
)
def test_a_token_that_everybody_would_try_is_refused_with_its_cure(tmp_path: Path, word: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[support]\nsha256 = "{digest_of(word).upper()}"\ntopics = ["*"]\n')
    with pytest.raises(BadKey, match=r"\[support\]: sha256 is of a word that everybody would try; .* new_token"):
        TokenFile(path)


def test_a_well_known_token_that_comes_later_leaves_those_before_in_force(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[one]\nsha256 = "{digest_of("one")}"\ntopics = ["*"]\n')
    file = TokenFile(path)
    path.write_text(f'[one]\nsha256 = "{digest_of("test")}"\ntopics = ["*"]\n')
    with pytest.raises(BadKey):
        file.reload()
    assert verify([file], "one", time.time()).name == "one"
    with pytest.raises(TokenError):
        verify([file], "test", time.time())


def test_the_example_file_can_be_used_and_lets_no_well_known_token_in() -> None:
    file = TokenFile(Path(__file__).parents[3] / "deploy" / "examples" / "tokens.toml")
    for word in ("test", "test2", "support", "dealing-desk", ""):
        with pytest.raises(TokenError):
            verify([file], word, time.time())
