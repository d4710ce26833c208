"""The floor plan: who may import what, how large a thing may be, and that importing has no effect."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mt4pump

PACKAGE = Path(mt4pump.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

OWNERS = {
    "ctypes": ("bridge/",),
    "zmq": ("publishing/", "security/", "query/", "daemon.py", "client/", "cli/", "bench/"),
    "sqlite3": ("journal/",),
    "filelock": ("running/instance.py",),
    "asyncio": ("bench/", "client/"),
    "multiprocessing": ("bench/",),
    "pydantic": ("settings/",),
    "pydantic_core": ("settings/",),
    "pydantic_settings": ("settings/",),
    "platformdirs": ("settings/",),
    "psutil": ("publishing/address_holder.py", "pumping/pulse.py", "journal/boot.py"),
    "rich": ("cli/", "bench/"),
    "argparse": ("cli/",),
    "signal": ("running/signals.py",),
    "socket": (
        "publishing/address_holder.py",
        "publishing/peers.py",
        "publishing/flow.py",
        "publishing/received.py",
        "notify.py",
        "demo/",
        "cli/",
    ),
    "msgpack": (
        "wire.py",
        "unpacking.py",
        "recording.py",
        "quotes.py",
        "tables.py",
        "desks/",
        "query/",
        "client/",
        "bench/",
    ),
    "mt4pump.settings": ("settings/", "cli/", "bench/", "daemon.py", "running/", "service/"),
    "mt4pump.bridge": ("bridge/", "running/sources.py", "running/signals.py", "client/console.py", "cli/"),
    "mt4pump.simulator": ("simulator/", "running/sources.py", "settings/values.py", "cli/"),
    "mt4pump.daemon": ("running/program.py", "cli/", "bench/"),
    "mt4pump.process": ("running/", "daemon.py", "cli/", "bench/", "demo/", "service/"),
    "mt4pump.client": ("client/", "cli/"),
    "mt4pump.cli": ("cli/", "__main__.py"),
    "mt4pump.bench": ("bench/", "cli/"),
}
"""What only some rooms may import (a folder with its slash, or a file)."""

PURE = (
    *(f"manager_api/{name}.py" for name in ("codes", "decode", "layout", "manager", "record")),
    *(
        "errors.py",
        "unpacking.py",
        "wire.py",
        "quotes.py",
        "trades.py",
        "table_read.py",
        "tables.py",
        "symbols.py",
        "sequence.py",
        "server_clock.py",
    ),
)
"""These take values and return values: no clock, thread, file, socket or log in reach, also not by what they import."""

HARMLESS = {
    *(
        "__future__",
        "codecs",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "fnmatch",
        "hashlib",
        "math",
        "msgpack",
        "struct",
        "typing",
        "zlib",
    ),
}

A_SOURCE_KNOWS = {"manager_api/", "complaints.py", "errors.py", "escaping.py", "private_files.py"}

LINES_OF_A_MODULE, LINES_OF_A_FUNCTION = 400, 70
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc", "tools", "stuff", "shared", "main"}


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"), module)


def imports(module: str) -> Iterator[str]:
    """Yield the dotted names of all that ``module`` imports, inside functions too."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports say whole names"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "mt4pump")


def ours(module: str) -> set[str]:
    """Return the files of the package that ``module`` imports."""
    files = set()
    for name in imports(module):
        place = name.removeprefix("mt4pump").lstrip(".").replace(".", "/")
        if name.partition(".")[0] == "mt4pump":
            files |= {f"{place}.py", f"{place}/__init__.py".lstrip("/")} & set(MODULES)
    return files


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or (room.endswith("/") and module.startswith(room)) for room in rooms)


def is_part_of(name: str, whole: str) -> bool:
    return name == whole or name.startswith(f"{whole}.")


@pytest.mark.parametrize("what", OWNERS)
def test_only_its_rooms_import(what: str) -> None:
    strangers = {
        module
        for module in MODULES
        if not within(module, OWNERS[what]) and any(is_part_of(name, what) for name in imports(module))
    }
    assert strangers == set()


@pytest.mark.parametrize("what", ["ctypes", "zmq", "pydantic"])
def test_the_rooms_of_a_library_are_not_empty(what: str) -> None:
    assert any(name.partition(".")[0] == what for module in MODULES for name in imports(module))


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_reaches_nothing_but_values(module: str) -> None:
    seen, waiting = set[str](), {module}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        foreign = {name.partition(".")[0] for name in imports(file)} - {"mt4pump"}
        assert foreign <= HARMLESS, f"{module} reaches {foreign - HARMLESS} through {file}"
        waiting |= ours(file) - seen
    assert {file for file in seen if not file.endswith("__init__.py")} <= set(PURE)


@pytest.mark.parametrize("room", ["bridge/", "simulator/"])
def test_a_source_knows_the_records_and_nothing_of_the_rooms_behind_it(room: str) -> None:
    reached = {file for module in MODULES if module.startswith(room) for file in ours(module)}
    assert not {file for file in reached if not within(file, (room, *A_SOURCE_KNOWS))} - {"__init__.py"}


def test_nobody_but_the_publisher_makes_a_socket_on_the_daemons_side() -> None:
    assert [name for name in imports("daemon.py") if is_part_of(name, "zmq")] == ["zmq"]
    sockets = [
        module
        for module in MODULES
        if not module.startswith(("cli/", "bench/"))
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr == "socket" and isinstance(node.ctx, ast.Load)
        if not within(module, OWNERS["socket"])
    ]
    assert {each for each in sockets if not each.startswith("client/")} == {
        *("publishing/publisher.py", "publishing/connections.py", "query/server.py", "security/zap.py")
    }


def test_the_modules_of_a_room_do_not_go_round_in_circles() -> None:
    """Imports inside functions and for type checkers aside, every module can be read before those that use it."""
    done, path = set[str](), list[str]()

    def visit(module: str) -> None:
        assert module not in path, f"circle: {' → '.join([*path, module])}"
        if module in done:
            return
        path.append(module)
        for file in sorted(top_level(module)):
            visit(file)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


def top_level(module: str) -> set[str]:
    """Return the files of the package that importing ``module`` imports, packages' own files aside."""
    body = [node for node in tree(module).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    files: set[str] = set()
    for node in body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for name in names:
            place = name.removeprefix("mt4pump").lstrip(".").replace(".", "/")
            if name.startswith("mt4pump."):
                files |= {f"{place}.py"} & set(MODULES)
    return files


@pytest.mark.parametrize("module", MODULES)
def test_a_module_and_its_functions_are_of_a_readable_size_and_say_what_they_are(module: str) -> None:
    lines = len((PACKAGE / module).read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_OF_A_MODULE
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert [node.name for node in functions if length(node) > LINES_OF_A_FUNCTION] == []
    assert ast.get_docstring(tree(module))
    assert Path(module).stem not in VAGUE


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


IMPORT_EVERYTHING = """
import importlib, json, logging, os, signal, sys, threading, warnings
warnings.simplefilter("error")

def state():
    root = logging.getLogger()
    handled = [name for name, logger in logging.Logger.manager.loggerDict.items()
               if name.startswith("mt4pump") and (getattr(logger, "handlers", None) or getattr(logger, "level", 0))]
    return {
        "root": [len(root.handlers), root.level],
        "handled": handled,
        "threads": [thread.name for thread in threading.enumerate()],
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "switch": sys.getswitchinterval(),
        "hooks": [sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__],
        "folder": [os.getcwd(), sorted(os.listdir())],
        "environment": sorted(os.environ),
    }

before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = state()
print(json.dumps({"before": before, "after": after, "modules": sorted(sys.modules)}))
"""


def imported(*names: str, folder: Path) -> dict[str, object]:
    """Import ``names`` in a fresh interpreter that stands in ``folder`` and return what that changed."""
    command = [sys.executable, "-c", IMPORT_EVERYTHING, *names]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    answer: dict[str, object] = json.loads(ended.stdout)
    return answer


def dotted(module: str) -> str:
    return ".".join(["mt4pump", *Path(module).with_suffix("").parts]).removesuffix(".__init__")


def test_importing_every_module_changes_nothing(tmp_path: Path) -> None:
    names = [dotted(module) for module in MODULES if not module.endswith("__main__.py")]
    answer = imported(*names, folder=tmp_path)
    assert answer["after"] == answer["before"]


def test_the_daemon_does_not_load_the_bridge_or_the_simulators_world_before_it_needs_them(tmp_path: Path) -> None:
    modules = imported("mt4pump.daemon", folder=tmp_path)["modules"]
    assert isinstance(modules, list)
    assert not [name for name in modules if is_part_of(name, "mt4pump.bridge")]
    assert "mt4pump.simulator.world" not in modules


def test_a_reader_of_the_wire_needs_no_socket_library(tmp_path: Path) -> None:
    modules = imported("mt4pump.wire", "mt4pump.sequence", folder=tmp_path)["modules"]
    assert isinstance(modules, list)
    assert not {"zmq", "pydantic", "ctypes"} & set(modules)


CONSUMERS = sorted((PACKAGE.parent / "consumers" / "mt4pump_consumers").rglob("*.py"))


@pytest.mark.parametrize("path", CONSUMERS, ids=lambda path: path.parent.name + "/" + path.name)
def test_a_consumer_imports_the_client_and_nothing_else_of_ours(path: Path) -> None:
    """But for the one way to make files that others cannot read, and the clock that a jump does not move."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    assert {name for name in names if is_part_of(name, "mt4pump")} <= {
        "mt4pump.client",
        "mt4pump.clock",
        "mt4pump.private_files",
    }
