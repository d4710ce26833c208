"""Makes a token for the file of tokens: ``python -m mt4pump_consumers.gateway.new_token NAME TOPIC...``.

The token goes to the standard error, for its owner; what belongs into the file goes to the standard output, so that
``>> tokens.toml`` does the rest.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence

from mt4pump.client.topic_state import unmatched
from mt4pump.process.arguments import ProgramParser
from mt4pump.process.program import EXIT_START, ConsumerSettings
from mt4pump_consumers.gateway.topics import is_name


def run(arguments: Sequence[str] | None = None) -> int:
    """Print a new token and its entry; return the exit code."""
    parser = ProgramParser("new_token", "make a token for the gateway's file of tokens")
    parser.epilog = "example: python -m mt4pump_consumers.gateway.new_token support 'quote.*' 'trade.*' >> tokens.toml"
    parser.add_argument("name", help="its owner, as shown in the gateway's log")
    parser.add_argument("topics", nargs="+", help="what it lets its owner see, as 'quote.*' or trade.1001")
    given = parser.read(sys.argv[1:] if arguments is None else arguments)
    try:
        from mt4pump_consumers.gateway.tokens import digest_of  # noqa: PLC0415 - its libraries may be missing
    except ModuleNotFoundError as error:
        sys.stderr.write(f"new_token: the library {error.name} is not installed; {ConsumerSettings.libraries}\n")
        return EXIT_START
    if not all(is_name(name) for name in (given.name, *given.topics)):
        parser.error("names and topics are printable, and have at most 200 characters")
    for warning in unmatched(given.topics):
        sys.stderr.write(f"new_token: {warning}\n")
    token = secrets.token_urlsafe(32)
    sys.stderr.write(f"token of {given.name}, shown only now: {token}\n")
    entry = [f"[{json.dumps(given.name)}]", f'sha256 = "{digest_of(token)}"', f"topics = {json.dumps(given.topics)}"]
    sys.stdout.write("\n".join(entry) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run())
