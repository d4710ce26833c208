"""Values of the daemon's own settings: each function checks one kind, and its error says what would be right."""

from __future__ import annotations

import codecs
import math
import os
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mt4pump.errors import did_you_mean
from mt4pump.mt4.layout import MAIL_BOX, MAIL_PERSONAL, USER_RECORD
from mt4pump.mt4.record import PERSONAL, PUBLIC, Record
from mt4pump.process.endpoints import ANY_HOST, PORT_MAX, endpoint_host
from mt4pump.process.values import LOOPBACK_NAMES, PathValue, none_or_text
from mt4pump.settings.wire_faults import wire_faults_of
from mt4pump.simulator.tick_formats import SYMBOL, SYMBOL_CHARS_MAX, zone_of
from mt4pump.wire import KINDS, QUOTE

IPC_PATH_MAX_BYTES = 103
"""What a Unix socket's path may have on every system (Linux allows four more)."""
COMMON_ENCODINGS = (*(f"cp{page}" for page in (932, 936, 949, 950, *range(1250, 1259))), "utf-8")
ANY_PORT = frozenset({"*", "0"})
"""Ports that let the system choose one."""


def number_or_max(value: object) -> object:
    """Return ``max`` as infinity. Refuses ``nan`` and a written infinity."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text == "max":
            return math.inf
        if text.lstrip("+-") in {"inf", "infinity", "nan"}:
            raise ValueError(f"{value!r} is not a number; write max for as fast as it goes")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("nan is not a number; write a number, or max")
    return value


def server(text: str) -> str:
    """Check ``host``, ``host:port`` or ``[ipv6]:port``; the port stays as written (the API's own default is 443)."""
    example = "write host:port, as mt4.example.com:443"
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+)(?::([0-9]{1,9}))?", text)
    if not match:
        raise ValueError(f"{text!r} is not a server; {example}")
    if match[2] and not 1 <= int(match[2]) <= PORT_MAX:
        raise ValueError(f"{text!r} has port {match[2]}, which is not from 1 to {PORT_MAX}; {example}")
    return text


def symbol_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Check symbol patterns: none of them empty. Those with ``!`` alone leave all other symbols in."""
    for pattern in patterns:
        if not pattern.removeprefix("!"):
            raise ValueError(f"{pattern!r} is not a pattern; write symbols, * and ?, and ! before those to leave out")
    return patterns


def encoding(name: str) -> str:
    """Check the code page of the server's text: one that Python knows, and that has ASCII in it."""
    example = "write the server's code page, as cp1252, cp1251 or cp936"
    try:
        codecs.lookup(name)
        ascii_stays = "A:z 0".encode(name) == b"A:z 0"
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        cure = did_you_mean(name.lower(), COMMON_ENCODINGS, example)
        raise ValueError(f"{name!r} is no code page; {cure}") from None
    if not ascii_stays:
        raise ValueError(f"{name!r} is not a code page that contains ASCII; {example}")
    return name


def server_code(text: str) -> str:
    """Check the short name of a server, which must be safe as a part of a path; empty: none."""
    if text and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", text):
        raise ValueError(f"{text!r} is not 1 to 64 ASCII letters, digits, - and _; write it as broker-live1")
    return text


def tick_symbol(text: str) -> str:
    """Check a symbol for tick files; empty: none."""
    if text and not re.fullmatch(SYMBOL, text):
        raise ValueError(f"{text!r} is not 1 to {SYMBOL_CHARS_MAX} ASCII characters without spaces; write it as EURUSD")
    return text


def tick_zone(text: str) -> str:
    """Check a time zone for tick files; empty: none."""
    if text:
        zone_of(text)
    return text


def user_field(name: str) -> str:
    """Check that ``name`` is a field of UserRecord that is personal: the others are always, or never, published."""
    return _personal_field(name, "user_fields", USER_RECORD, USER_RECORD.names(PERSONAL))


def mail_field(name: str) -> str:
    """Check that ``name`` is a personal part of a mail: the others are always, or never, published."""
    return _personal_field(name, "mail_fields", MAIL_BOX, MAIL_PERSONAL)


def _personal_field(name: str, setting: str, record: Record, personal: frozenset[str]) -> str:
    if name in personal:
        return name
    if name in record.names(PUBLIC):
        raise ValueError(f"{name!r} is always published; {setting} is for personal fields only: leave it out")
    if name in record.by_name:
        raise ValueError(f"{name!r} can never be published: it is a secret, or no data at all; leave it out")
    cure = did_you_mean(name, personal, f"choose from {', '.join(sorted(personal))}")
    raise ValueError(f"{name!r} is no field of {record.name}; {cure}")


def endpoint(text: str) -> str:
    """Check an address to publish on: ``tcp://host:port`` or ``ipc://path``. libzmq takes some wrong ones silently."""
    example = "write tcp://127.0.0.1:5556 or ipc:///run/mt4pump.sock"
    transport, separator, address = text.partition("://")
    if transport == "ipc" and separator:
        if not address or len(os.fsencode(address)) > IPC_PATH_MAX_BYTES:
            raise ValueError(f"{text!r}: a socket's path has 1 to {IPC_PATH_MAX_BYTES} bytes; {example}")
        return text
    if transport != "tcp" or not separator:
        raise ValueError(f"{text!r} is neither tcp:// nor ipc://; {example}")
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"\*|\[[0-9A-Fa-f:.%\w]+\]|[^\s:;/\[\],*]+", host):
        raise ValueError(f"{text!r} has no valid host; {example}")
    if port != "*" and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= PORT_MAX):
        raise ValueError(f"{text!r} has no port from 1 to {PORT_MAX} (0 or * for any free one); {example}")
    return text


def collide(first: str, second: str) -> bool:
    """Return whether two checked endpoints cannot both be bound. Ports that the system chooses never collide."""
    if endpoint_host(first) is None or endpoint_host(second) is None:
        return first == second
    port, other_port = (each.rpartition(":")[2] for each in (first, second))
    if ANY_PORT & {port, other_port} or int(port) != int(other_port):
        return False
    hosts = {"127.0.0.1" if (host := str(endpoint_host(each))) in LOOPBACK_NAMES else host for each in (first, second)}
    return len(hosts) == 1 or not hosts.isdisjoint(ANY_HOST)


def fault(text: str) -> str:
    """Check one fault of the simulator, as ``drop@10`` or ``skip@5+20:3``."""
    from mt4pump.simulator.options import parse_fault  # noqa: PLC0415 - the simulator is no part of a dll session

    parse_fault(text)
    return text


def wire_faults(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Check the faults of the wire, as ``drop=1%`` and ``restart=30s``: each once."""
    wire_faults_of(texts)
    return texts


# A validator that runs before the bounds stands after them: only so does pydantic's schema show the bounds.
Speed = Annotated[float, Field(gt=0), BeforeValidator(number_or_max)]
Rate = Annotated[float, Field(ge=0), BeforeValidator(number_or_max)]
Servers = tuple[Annotated[str, AfterValidator(server)], ...]
SymbolPatterns = Annotated[tuple[str, ...], AfterValidator(symbol_patterns)]
UserFields = tuple[Annotated[str, AfterValidator(user_field)], ...]
MailFields = tuple[Annotated[str, AfterValidator(mail_field)], ...]
Paths = tuple[PathValue, ...]
Faults = tuple[Annotated[str, AfterValidator(fault)], ...]
WireFaultTexts = Annotated[tuple[str, ...], AfterValidator(wire_faults)]
TickSymbol = Annotated[str, AfterValidator(tick_symbol)]
ServerCode = Annotated[str, AfterValidator(server_code)]
TickZone = Annotated[str, AfterValidator(tick_zone)]
Encoding = Annotated[str, AfterValidator(encoding)]
Endpoint = Annotated[str, AfterValidator(endpoint)]
EndpointOrNone = Annotated[Endpoint | None, BeforeValidator(none_or_text)]

SUFFIXES = frozenset((*"|;,", *map(chr, range(1, 32)), "\x7f"))
"""What no key of MT4 is likely to hold: three that every shell can write, and control characters.

NUL is none of them: it ends a text in too many languages.
"""


def topic_suffix(text: str) -> str:
    """Return the character that ``text`` stands for; empty and ``none`` are no suffix, ``us`` is the unit separator."""
    if text in SUFFIXES:
        return text
    word = text.strip().lower()
    if word in {"", "none"}:
        return ""
    escaped = re.fullmatch(r"\\x([0-9a-f]{2})|\\u00([0-9a-f]{2})", word)
    found = chr(int(escaped[1] or escaped[2], 16)) if escaped else "\x1f" if word == "us" else ""
    if found in SUFFIXES:
        return found
    raise ValueError(f"{text!r} cannot end topics; write one of | ; , or a control character as \\x1f, or none")


def suffix_text(suffix: str) -> str:
    r"""Return a checked suffix as one would write it: ``\x1f`` for a control character, ``none`` for no suffix."""
    if not suffix:
        return "none"
    return suffix if suffix.isprintable() else f"\\x{ord(suffix):02x}"


TopicSuffix = Annotated[str, AfterValidator(topic_suffix)]

USUAL = tuple(kind.name for kind in KINDS.values() if kind.durable)
"""The kinds that must never be lost silently."""
POSSIBLE = (QUOTE.name, *USUAL)
"""Quotes may be kept, too: many events, and each of them is soon replaced by the next."""
SIGNS = ("+", "-")
"""``durable`` is the whole list, ``trade,user,session``, or changes to the usual one, ``+quote,-mail``."""


def durable_word(word: str) -> str:
    """Check one word of the list: a kind, perhaps with a sign before it; in small letters."""
    sign = word[:1] if word.startswith(SIGNS) else ""
    name = word.removeprefix(sign).strip().lower()
    if name in POSSIBLE:
        return sign + name
    if name in KINDS:
        raise ValueError(f"{word!r} is never stored; choose from {', '.join(POSSIBLE)}")
    cure = did_you_mean(name, POSSIBLE, f"choose from {', '.join(POSSIBLE)}", lambda near: sign + near)
    raise ValueError(f"{word!r} is no kind of event; {cure}")


def durable_kinds(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds that checked words select, each once, in the order of the contract."""
    signed = [word for word in words if word.startswith(SIGNS)]
    if not signed:
        return tuple(name for name in POSSIBLE if name in words)
    if len(signed) < len(words):
        plain = next(word for word in words if not word.startswith(SIGNS))
        raise ValueError(
            f"{plain!r} stands beside {signed[0]!r}; write either the whole list, or + and - before every kind"
        )
    added, removed = ({word[1:] for word in signed if word.startswith(sign)} for sign in SIGNS)
    if both := sorted(added & removed):
        raise ValueError(f"{both[0]!r} is both added and left out; write it once")
    return tuple(name for name in POSSIBLE if name in (added | set(USUAL)) - removed)


DurableKinds = Annotated[tuple[Annotated[str, AfterValidator(durable_word)], ...], AfterValidator(durable_kinds)]
