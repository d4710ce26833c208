"""Runs a program under the system calls that a unit leaves it: ``python jail.py UNIT PROGRAM ARGUMENT...``.

Reads `SystemCallFilter`, `RestrictAddressFamilies` and `MemoryDenyWriteExecute` of the unit and loads the same filter
as systemd would, by libseccomp. What is refused fails with the same error as there, so that a library which aborts on
it aborts here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
ALL_FAMILIES = range(46)


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def values(unit: str, name: str) -> list[str]:
    """Return what stands behind ``name=`` in the unit, line by line."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]


def calls(name: str) -> Iterator[str]:
    """Yield the system calls of a set of systemd's, or of one call's name."""
    if not name.startswith("@"):
        yield name
        return
    result = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)  # noqa: S607
    for line in result.stdout.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            yield from calls(word)


def allowed(unit: str) -> set[str]:
    """Return the system calls that the unit allows; those of ``@default`` always are."""
    names = set(calls("@default"))
    for value in values(unit, "SystemCallFilter"):
        listed = {call for word in value.removeprefix("~").split() for call in calls(word)}
        names = names - listed if value.startswith("~") else names | listed
    return names | set(calls("@default"))


def enclose(unit: str) -> None:
    """Load the filter for this process and what it executes."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO | errno.EPERM)))

    def rule(action: int, call: str, *comparisons: Comparison) -> None:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:  # of another processor
            return
        array = (Comparison * len(comparisons))(*comparisons)
        failed = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(array), array)
        if failed:
            raise OSError(-failed, f"seccomp rule for {call}")

    guarded = {"socket", "mmap", "mprotect", "pkey_mprotect"}
    for call in allowed(unit) - guarded:
        rule(ALLOW, call)
    families = {FAMILIES[name] for name in values(unit, "RestrictAddressFamilies")[0].split()}
    for family in ALL_FAMILIES:
        action = ALLOW if family in families else ERRNO | errno.EAFNOSUPPORT
        rule(action, "socket", Comparison(0, EQUAL, family, 0))
    assert values(unit, "MemoryDenyWriteExecute") == ["yes"]
    for bits in (0, PROT_WRITE, PROT_EXEC):
        rule(ALLOW, "mmap", Comparison(2, MASKED_EQUAL, PROT_WRITE | PROT_EXEC, bits))
    for call in ("mprotect", "pkey_mprotect"):
        rule(ALLOW, call, Comparison(2, MASKED_EQUAL, PROT_EXEC, 0))
    if failed := library.seccomp_load(context):
        raise OSError(-failed, "seccomp filter")


if __name__ == "__main__":
    enclose(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - that is what it is for
