"""Who may import what, how large a thing may be, and that importing has no effect.

The graph of imports is grimp's; imports for type checkers and those inside functions count as all others do.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import mt4pump

PACKAGE = Path(mt4pump.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
CONSUMER_FILES = sorted((ROOT / "consumers" / "mt4pump_consumers").rglob("*.py"))

OWNERS = {
    "ctypes": {"bridge"},
    "sqlite3": {"journal"},
    "filelock": {"process.data_folder"},
    "asyncio": {"cli.bench_peers", "client", "process.program"},
    "multiprocessing": {"cli.bench_peers"},
    "pydantic": {"settings", "process"},
    "pydantic_core": {"process.settings"},
    "platformdirs": {"settings"},
    "rich": {"cli"},
    "argparse": {"cli", "process.arguments"},
    "signal": {"process.signals"},
    "mt4pump.bridge": {"bridge", "session_source", "process.signals", "client", "cli"},
    "mt4pump.simulator": {"simulator", "session_source", "settings", "cli"},
    "mt4pump.daemon": {"daemon", "cli"},
    "mt4pump.client": {"client", "cli"},
    "mt4pump.cli": {"cli", "__main__"},
}
"""What only some packages or modules of ours may import."""

PURE = {
    *(f"mt4.{name}" for name in ("codes", "layout", "manager", "record")),
    *("pump.quotes", "pump.lifecycle", "pump.table_diff", "errors", "wire"),
}
"""These take values and return values: no clock, thread, file, socket or log in reach, also not by what they import."""

HARMLESS = {
    *(
        "__future__",
        "codecs",
        "collections",
        "contextlib",
        "dataclasses",
        "difflib",
        "enum",
        "functools",
        "fnmatch",
        "hashlib",
        "itertools",
        "math",
        "msgpack",
    ),
    *("struct", "typing", "zlib"),
}

CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")
PRIVATE = re.compile(r"# noqa: [A-Z0-9, ]*\bSLF001\b|\bsetattr\([^\"]+, \"_[a-z]")
"""What the linter reports, and `monkeypatch.setattr` with a private name, which it does not see."""
REASON = re.compile(r"\s*#(?: \S+){4,}")
"""A comment of four words or more: fewer are a heading, or a mark for a tool."""
LINES_OF_A_MODULE, LINES_OF_A_FUNCTION = 400, 70
VAGUE = {"utils", "util", "helpers", "helper", "common", "core", "misc", "tools", "stuff", "shared", "main"}


@functools.cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("mt4pump", include_external_packages=True, cache_dir=None)


def ours(names: Iterable[str]) -> set[str]:
    """Return those of ``names`` that are modules of ours, without the first word."""
    return {name.partition(".")[2] for name in names if name.startswith("mt4pump.")}


def is_within(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"), file)


@pytest.mark.parametrize("what", OWNERS)
def test_only_its_owners_import(what: str) -> None:
    imported = [module for module in graph().modules if module == what or module.startswith(f"{what}.")]
    importers = {by for module in imported for by in graph().find_modules_that_directly_import(module)}
    assert importers
    assert {module for module in ours(importers) if not is_within(module, OWNERS[what])} == set()


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_module_reaches_nothing_but_values(module: str) -> None:
    reached = graph().find_upstream_modules(f"mt4pump.{module}")
    packages = {name for name in ours(reached) if (PACKAGE / name.replace(".", "/")).is_dir()}
    assert ours(reached) - packages <= PURE
    assert {name for name in reached if name.partition(".")[0] != "mt4pump"} <= HARMLESS


@pytest.mark.parametrize("package", ["bridge", "simulator"])
def test_a_manager_imports_the_records_and_nothing_of_the_daemon(package: str) -> None:
    modules = graph().find_descendants(f"mt4pump.{package}")
    reached = {by for module in modules for by in graph().find_modules_directly_imported_by(module)}
    assert {
        module for module in ours(reached) if not is_within(module, {package, "mt4", "errors", "log", "private_files"})
    } == set()


def test_no_file_imports_in_a_circle() -> None:
    modules = [module for module in graph().modules if module.startswith("mt4pump")]
    TopologicalSorter({module: graph().find_modules_directly_imported_by(module) for module in modules}).prepare()


def test_no_package_imports_in_a_circle() -> None:
    def package(module: str) -> str:
        return ".".join(module.split(".")[:2])

    edges: dict[str, set[str]] = {}
    for module in graph().modules:
        if module.startswith("mt4pump."):
            edges.setdefault(package(module), set()).update(
                package(other)
                for other in graph().find_modules_directly_imported_by(module)
                if package(other) != package(module)
            )
    TopologicalSorter(edges).prepare()


def test_nobody_else_makes_a_socket_on_the_daemons_side() -> None:
    makers = {
        file
        for file in FILES
        if not file.startswith(("cli/", "client/"))
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "socket"
        if any(
            isinstance(word, ast.Attribute) and isinstance(word.value, ast.Name) and word.value.id == "zmq"
            for word in node.args
        )
    }
    assert makers == {"publisher/connections.py", "publisher/publisher.py", "query/server.py", "security/zap.py"}


@pytest.mark.parametrize("file", FILES)
def test_a_module_and_its_functions_are_of_a_readable_size_and_say_what_they_are(file: str) -> None:
    assert len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_MODULE
    functions = [node for node in ast.walk(tree(file)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= LINES_OF_A_FUNCTION] == []
    assert ast.get_docstring(tree(file))
    assert Path(file).stem not in VAGUE


def names_of_types(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each name of a type that a file makes, and what it names: a class, an alias, an import renamed by ``as``.

    A type variable is none: it has no meaning outside of the functions that it stands in.
    """
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            yield node.name, f"{path}: class"
        elif isinstance(node, ast.ImportFrom):
            yield from ((each.asname, f"{node.module}.{each.name}") for each in node.names if each.asname)
        elif isinstance(node, ast.Assign) and not ast.unparse(node.value).startswith("TypeVar("):
            yield from ((target.id, f"{path}: alias") for target in node.targets if isinstance(target, ast.Name))


def test_each_private_access_of_a_test_has_its_reason_in_the_docstring_or_on_the_line_above() -> None:
    without = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "Private access: " in (ast.get_docstring(ast.parse(text)) or ""):
            continue
        lines = text.splitlines()
        marked = [number for number, line in enumerate(lines) if PRIVATE.search(line)]
        without += [f"{path.name}:{number + 1}" for number in marked if not REASON.match(lines[number - 1])]
    assert without == []


def test_no_class_name_stands_twice() -> None:
    meanings: dict[str, set[str]] = {}
    for path in (*PACKAGE.rglob("*.py"), *CONSUMER_FILES):
        for name, meaning in names_of_types(path):
            if CAMEL_CASE.fullmatch(name):
                meanings.setdefault(name, set()).add(meaning)
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    answer: dict[str, object] = json.loads(ended.stdout)
    return answer


def modules_after(*names: str, folder: Path) -> set[str]:
    modules = imported(*names, folder=folder)["modules"]
    assert isinstance(modules, list)
    return set(modules)


def dotted(file: str) -> str:
    return ".".join(["mt4pump", *Path(file).with_suffix("").parts]).removesuffix(".__init__")


def test_importing_every_module_changes_nothing(tmp_path: Path) -> None:
    names = [dotted(file) for file in FILES if not file.endswith("__main__.py")]
    answer = imported(*names, folder=tmp_path)
    assert answer["after"] == answer["before"]


def test_the_daemon_does_not_load_the_bridge_or_the_simulator_before_it_needs_them(tmp_path: Path) -> None:
    modules = modules_after("mt4pump.daemon", folder=tmp_path)
    assert not {name for name in modules if is_within(name, {"mt4pump.bridge"})}
    assert "mt4pump.simulator.broker" not in modules


def test_a_reader_of_the_wire_needs_no_socket_library(tmp_path: Path) -> None:
    assert not {"zmq", "pydantic", "ctypes"} & modules_after("mt4pump.wire", folder=tmp_path)


@functools.cache
def consumer_graph() -> grimp.ImportGraph:
    return grimp.build_graph("mt4pump_consumers", "mt4pump", cache_dir=None)


CONSUMER_MODULES = sorted(
    ".".join(path.relative_to(ROOT / "consumers").with_suffix("").parts).removesuffix(".__init__")
    for path in CONSUMER_FILES
)


@pytest.mark.parametrize("module", CONSUMER_MODULES)
def test_a_consumer_imports_the_client_what_programs_share_and_nothing_else_of_ours(module: str) -> None:
    allowed = {"client", "process", "private_files"}
    if module.startswith("mt4pump_consumers.monitor"):
        allowed |= {"log"}  # it writes lines of JSON to standard output
    if module.startswith("mt4pump_consumers.archive"):
        # Its columns are the contract's fields, it imports the tick files that the simulator replays, and it writes
        # rows to standard output.
        allowed |= {"log", "protocol", "simulator.tick_files", "simulator.tick_formats"}
    imported = ours(consumer_graph().find_modules_directly_imported_by(module))
    assert {name for name in imported if not is_within(name, allowed)} == set()


def test_no_file_of_the_consumers_imports_in_a_circle() -> None:
    edges = {module: consumer_graph().find_modules_directly_imported_by(module) for module in CONSUMER_MODULES}
    TopologicalSorter(edges).prepare()


def test_only_what_starts_or_describes_the_consumers_names_their_package() -> None:
    """A file read by the name of its package is a dependency that no import shows."""
    named = {file for file in FILES if "mt4pump_consumers" in (PACKAGE / file).read_text(encoding="utf-8")}
    assert named == {"cli/demo.py", "process/program.py", "protocol/contract.py", "service/plan.py"}
