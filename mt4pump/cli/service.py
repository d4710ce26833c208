"""``mt4pump service``: the daemon and its consumers as Windows services."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mt4pump.errors import EXIT_FAILED, EXIT_OK, EXIT_START
from mt4pump.service import windows
from mt4pump.service.control import Control, DryRun
from mt4pump.service.plan import PROGRAMS, NssmMissingError, Placement, Program, ServiceError, chosen
from mt4pump.service.windows import RUNNING, Nssm

EXAMPLES = """\
  mt4pump service install daemon gateway --nssm C:\\nssm\\nssm.exe
  mt4pump service status"""
ACTIONS = ("install", "start", "stop", "status", "remove")


def service_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action, the programs and their places."""
    parser.epilog = EXAMPLES
    programs = f"{', '.join(PROGRAMS)}; if none: install daemon, else all that are installed"
    nssm_file = "nssm.exe; if not given: the last install's, else the one on PATH"
    root = "holds a folder per service: settings, data, logs; for the system and administrators alone [%(default)s]"
    default_root = Path(os.environ.get("PROGRAMDATA") or r"C:\ProgramData") / "mt4pump"  # services belong to no user
    account = "run as an account of its own with few rights, not as LocalSystem"
    parser.add_argument("action", choices=ACTIONS, help="install and the others may be repeated")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=programs)
    parser.add_argument("--nssm", type=Path, metavar="FILE", help=nssm_file)
    parser.add_argument("--root", type=Path, default=default_root, metavar="FOLDER", help=root)
    parser.add_argument("--python", default=sys.executable, metavar="FILE", help="the Python that has mt4pump [this]")
    parser.add_argument("--own-account", action="store_true", help=account)
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run none")


def service_command(args: argparse.Namespace) -> int:
    """Run the action. Returns 0 when done (status: all that is installed runs), 3 without NSSM, 1 otherwise."""
    try:
        return _run(args)
    except ServiceError as error:
        print(f"mt4pump service: {error}", file=sys.stderr)
        return EXIT_START if isinstance(error, NssmMissingError) else EXIT_FAILED


def _run(args: argparse.Namespace) -> int:
    programs = chosen(args.programs)
    place = Placement(str(Path(args.python).absolute()), str(args.root.absolute()), os.sep)
    place.check()
    if args.dry_run:
        _show(args, programs or chosen(["daemon"]), place)
        return EXIT_OK
    program = windows.find(args.nssm, windows.read_value(windows.NSSM_VALUE))
    control = Control(Nssm(program, windows.run), place, print)
    if args.action == "status":
        return _status(control, programs)
    if args.action == "install":
        programs = programs or chosen(["daemon"])
        control.prepare(programs)
        for each in programs:
            control.install(each, own_account=args.own_account)
        windows.write_value(windows.NSSM_VALUE, program)
        return EXIT_OK
    programs = programs or [PROGRAMS[name] for name, state in control.states().items() if state is not None]
    if not programs:
        raise ServiceError("nothing is installed: mt4pump service install")
    # What others need starts first and ends last.
    for each in programs if args.action == "start" else reversed(programs):
        getattr(control, args.action)(each)
    return EXIT_OK


def _show(args: argparse.Namespace, programs: list[Program], place: Placement) -> None:
    dry_run = DryRun(str(args.nssm or windows.read_value(windows.NSSM_VALUE) or "nssm"), place, print)
    if args.action == "install":
        dry_run.install(programs, own_account=args.own_account)
    else:
        dry_run.act(args.action, programs)


def _status(control: Control, programs: list[Program]) -> int:
    states = control.states()
    names = [program.name for program in programs] or list(states)
    for name in names:
        print(f"{PROGRAMS[name].service:<16} {states[name] or 'not installed'}")
    checked = [states[name] for name in names if programs or states[name] is not None]
    return EXIT_OK if checked and all(state == RUNNING for state in checked) else EXIT_FAILED
