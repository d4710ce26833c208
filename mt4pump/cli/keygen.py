"""``mt4pump keygen``: makes keys for the daemon, and for each client that may connect to it."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import NamedTuple

from mt4pump.cli import report
from mt4pump.client.topic_state import whole_kind
from mt4pump.errors import SettingsError
from mt4pump.security.keys import CLIENT_NAME, TOML_ENDING, KeyFileError, new_pair, read_server_public, write_new
from mt4pump.security.permissions import ENTRIES_LIMIT, WILDCARD, declared
from mt4pump.wire import HEARTBEAT

SERVER_PUBLIC, SERVER_SECRET, CLIENTS, CLIENT_ENDING = "server.key", "server.secret", "clients", ".client"
STAND_IN_SUFFIX = "\x1f"
"""Exact topics are checked as if the daemon had a topic_suffix, because only the daemon knows its own."""

EPILOG = """
Once, for the daemon:
  mt4pump keygen server keys
      keys/server.secret   the daemon's alone: curve_secret_key = "keys/server.secret"
      keys/server.key      for everybody
and for each client:
  mt4pump keygen client alice --topics 'quote.*,trade.*' --server keys/server.key -o keys
      keys/alice.client         send it to alice over a secure channel; then delete it here
      keys/clients/alice.toml   stays with the daemon: curve_clients = "keys/clients"
The daemon reads the folder again by itself: a client whose file was removed, or has fewer topics, is disconnected
within two seconds.

The files are TOML; keys are 40 characters of Z85:
  server.secret   public_key, secret_key
  server.key      public_key
  NAME.client     public_key, secret_key, server_key
  clients/NAME.toml
      public_key = "..."
      topics = ["quote.*", "trade.*"]   prefix*, * for everything, or one exact topic
      query = true                      may use the query endpoint
An exact topic, as trade.1001, needs the daemon's setting topic_suffix: without it a subscription to trade.100 matches
trade.1001 too.

Secret files are readable by their owner alone. On Windows the folder's rights apply instead; restrict them:
  icacls keys\\server.secret /inheritance:r /grant:r "%USERNAME%:R"
and grant the account that the service runs under in the same way.
"""


class CreatedKeys(NamedTuple):
    """A file to write."""

    path: Path
    text: str
    private: bool


def keygen_arguments(parser: argparse.ArgumentParser) -> None:
    """Add action, name and flags."""
    parser.epilog = EPILOG
    parser.usage = (
        "mt4pump keygen server DIR [--force]\n       mt4pump keygen client NAME --topics T,T --server FILE [-o DIR]"
    )
    parser.add_argument("whose", choices=("server", "client"), help="for the daemon, or for a client of it")
    parser.add_argument("target", metavar="DIR|NAME", help="server: folder to write to; client: its name")
    parser.add_argument("--topics", metavar="T,T", help="client: what it may read, as 'quote.*,trade.*'; * for all")
    parser.add_argument("--server", metavar="FILE", type=Path, help="client: the daemon's public key, server.key")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="client: folder to write to (default: .)")
    parser.add_argument("--no-query", action="store_true", help="client: may not use the query endpoint")
    parser.add_argument("--force", action="store_true", help="replace files that exist: their keys are lost for good")


def keygen_command(args: argparse.Namespace) -> int:
    """Make the keys and write the files."""
    made = _server_files(args) if args.whose == "server" else _client_files(args)
    held = [str(each.path) for each in made if each.path.exists()]
    if held and not args.force:
        raise KeyFileError(f"{', '.join(held)} exists; choose another place, or replace the keys in it with --force")
    for each in made:
        write_new(each.path, each.text, private=each.private)
        print(f"{each.path}  {'secret' if each.private else 'public'}")
    if os.name == "nt":
        for each in made:
            if each.private:
                print(f'narrow its rights: icacls "{each.path}" /inheritance:r /grant:r "%USERNAME%:R"')
    return 0


def _server_files(args: argparse.Namespace) -> list[CreatedKeys]:
    if args.topics or args.server or args.output or args.no_query:
        raise SettingsError("keygen server takes a folder only: mt4pump keygen server DIR")
    folder, pair = Path(args.target), new_pair()
    keys = "# mt4pump's own keys: whoever reads secret_key can pose as this daemon.\n"
    keys += _lines(public_key=pair.public, secret_key=pair.secret)
    public = "# mt4pump's public key: for everybody.\n" + _lines(public_key=pair.public)
    return [
        CreatedKeys(folder / SERVER_SECRET, keys, private=True),
        CreatedKeys(folder / SERVER_PUBLIC, public, private=False),
    ]


def _client_files(args: argparse.Namespace) -> list[CreatedKeys]:
    name = args.target
    if not CLIENT_NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no client's name: letters, digits and _.@- (at most 64)")
    if not args.server:
        raise SettingsError("--server is missing: the daemon's public key, as --server keys/server.key")
    topics = _topics(args.topics)
    server, pair, folder = read_server_public(args.server), new_pair(), args.output or Path()
    keys = f"# {name}'s keys for mt4pump: secret.\n"
    keys += _lines(public_key=pair.public, secret_key=pair.secret, server_key=server)
    rules = f"# What {name} may read.\n" + _lines(public_key=pair.public, topics=topics, query=not args.no_query)
    return [
        CreatedKeys(folder / f"{name}{CLIENT_ENDING}", keys, private=True),
        CreatedKeys(folder / CLIENTS / f"{name}{TOML_ENDING}", rules, private=False),
    ]


def _topics(text: str | None) -> list[str]:
    """Return the topics of ``--topics``, checked."""
    topics = [whole_kind(each) for part in (text or "").split(",") if (each := part.strip())]
    if not topics:
        raise SettingsError(f"--topics is missing: what the client may read, as 'quote.*,trade.*' (≤ {ENTRIES_LIMIT})")
    declared(topics, STAND_IN_SUFFIX, "--topics")
    if exact := [each for each in topics if not each.endswith(WILDCARD) and each != HEARTBEAT.name]:
        report("keygen", f"exact topics need a daemon with a topic_suffix, as '|': {', '.join(exact)}")
    return topics


def _lines(**values: object) -> str:
    """Return lines of TOML, whose texts, lists of texts and truths are written as in JSON."""
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
