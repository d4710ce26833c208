"""The client stands on the wire's own modules: a consumer needs neither settings nor the daemon."""

from __future__ import annotations

import ast
from pathlib import Path

import mt4pump.client

ALLOWED = {
    "mt4pump.client",
    "mt4pump.wire",
    "mt4pump.errors",
    "mt4pump.mt4.codes",
    "mt4pump.pump.tables",
}
PURE = (
    "checks",
    "event",
    "events",
    "liveness",
    "ordering",
    "recovery",
    "recovery_steps",
    "stream",
    "topic_state",
)
ALSO = {
    "__init__.py": {"mt4pump.log", "mt4pump.process.signals", "mt4pump.process.systemd"},
    "connection.py": {"mt4pump.libzmq_sockets", "mt4pump.process.endpoints"},
    "connection_fault.py": {"mt4pump.process.endpoints"},
    "keys.py": {"mt4pump.private_files"},
    "position.py": {"mt4pump.private_files"},
    "subscriber.py": {"mt4pump.process.endpoints"},
}
"""What one module alone may have: consumers import the client only, and are services, too."""
CLOCKS_AND_SOCKETS = {"asyncio", "threading", "time", "zmq"}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_it_imports_only_the_wire() -> None:
    for path in Path(mt4pump.client.__file__).parent.glob("*.py"):
        ours = {name for name in imported(path) if name.partition(".")[0] == "mt4pump"}
        strange = {name for name in ours if not any(name == each or name.startswith(f"{each}.") for each in ALLOWED)}
        assert strange <= ALSO.get(path.name, set()), path.name


def test_the_core_has_no_clock_and_no_socket() -> None:
    folder = Path(mt4pump.client.__file__).parent
    for name in PURE:
        assert not {each.partition(".")[0] for each in imported(folder / f"{name}.py")} & CLOCKS_AND_SOCKETS, name
