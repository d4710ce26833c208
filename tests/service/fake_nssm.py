"""NSSM, icacls and sc.exe for tests: state in a JSON file, words as UTF-16, only what NSSM 2.24 knows.

Run as ``python fake_nssm.py STATE WORD...``. Knobs in the state: ``dies`` (services whose program ends at once),
``slow`` (those whose program speaks for the first time, and ends, some looks later), ``mute`` (those whose program
writes no log), ``stuck`` (those that never stop), ``denied`` (no administrator), ``busy`` (so many sets are refused).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KNOWN = {
    *(
        "Application",
        "AppParameters",
        "AppDirectory",
        "AppExit",
        "AppAffinity",
        "AppEnvironment",
        "AppEnvironmentExtra",
    ),
    *("AppNoConsole", "AppPriority", "AppRestartDelay", "AppStdin", "AppStdout", "AppStderr", "AppStopMethodSkip"),
    *("AppStopMethodConsole", "AppStopMethodWindow", "AppStopMethodThreads", "AppThrottle", "AppRotateFiles"),
    *(
        "AppRotateOnline",
        "AppRotateSeconds",
        "AppRotateBytes",
        "AppRotateBytesHigh",
        "DependOnGroup",
        "DependOnService",
    ),
    *("Description", "DisplayName", "ImagePath", "ObjectName", "Name", "Start", "Type"),
}
RUNNING, STOPPED, PAUSED, STOP_PENDING = "SERVICE_RUNNING", "SERVICE_STOPPED", "SERVICE_PAUSED", "SERVICE_STOP_PENDING"
START_PENDING = "SERVICE_START_PENDING"


def answer(state: dict[str, Any], words: list[str]) -> tuple[int, str]:
    """Return exit code and text, and change ``state``."""
    action, name, *rest = words
    services = state.setdefault("services", {})
    if state.get("denied") and action in {"install", "remove"}:
        return 5, "Administrator access is needed to install a service."
    if action == "install":
        if not rest or name in services:
            return 1, "a window would open"
        services[name] = {"state": STOPPED, "set": {"Application": rest[0]}}
        return 0, f'Service "{name}" installed successfully!'
    if name not in services:
        return 3, f"Can't open service! {name}"
    return on_existing(state, services[name], action, name, rest)


def on_existing(  # noqa: PLR0911 - one for each action
    state: dict[str, Any], service: dict[str, Any], action: str, name: str, rest: list[str]
) -> tuple[int, str]:
    """Return what happens to a service that is there."""
    if action == "status":
        seen = looked_at(state, service, name)
        return 0, seen
    if action == "set":
        parameter, *value = rest
        if state.get("busy"):
            state["busy"] -= 1
            return 1, "Internal error."
        if parameter not in KNOWN or not value:
            return 1, f'Invalid parameter "{parameter}". Valid parameters are: {" ".join(sorted(KNOWN))}'
        key = f"{parameter} {value[0]}" if parameter == "AppExit" else parameter
        service["set"][key] = " ".join(value[1:] if parameter == "AppExit" else value)
        return 0, f'Set parameter "{parameter}".'
    if action == "reset" and rest == ["DependOnService"]:
        service["set"].pop("DependOnService", None)
        return 0, 'Reset parameter "DependOnService" to its default.'
    if action == "start":
        service["state"] = started(state, service, name)
        words = f"Unexpected status {PAUSED} in response to START control."
        return (1, words) if service["state"] == PAUSED else (0, f"{name}: START: ok")
    if action == "stop":
        service["state"] = STOP_PENDING
        return 0, f"{name}: STOP: ok"
    if action == "remove" and rest == ["confirm"] and service["state"] == STOPPED:
        del state["services"][name]
        return 0, f'Service "{name}" removed successfully!'
    return 99, "a window would open, or the service runs"


def looked_at(state: dict[str, Any], service: dict[str, Any], name: str) -> str:
    """Return the state that is seen; meanwhile it goes on."""
    seen = str(service["state"])
    if seen == START_PENDING:
        service["state"] = RUNNING
    if seen == STOP_PENDING and name not in state.get("stuck", []):
        service["state"] = STOPPED
    if seen == RUNNING and "looks" in service:
        service["looks"] -= 1
        if not service["looks"]:
            speak(service, "settings are wrong")
        elif service["looks"] < -1:
            service["state"] = STOPPED
    return seen


def started(state: dict[str, Any], service: dict[str, Any], name: str) -> str:
    """Return the state after a start."""
    if name in state.get("slow", []):
        service["looks"] = 3
    elif name not in state.get("mute", []):
        speak(service, "publishes")
    return PAUSED if name in state.get("dies", []) else RUNNING


def speak(service: dict[str, Any], text: str) -> None:
    """Write what the program of a service says into its log."""
    if log := service["set"].get("AppStdout"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def answered(path: Path, program: str, words: list[str]) -> tuple[int, str]:
    """Answer one call and note it in the state at ``path``."""
    state = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    state.setdefault("calls", []).append([program, *words])
    code, text = answer(state, words) if program == "nssm" else (0, "done")
    path.write_text(json.dumps(state), encoding="utf-8")
    return code, text


def main() -> int:
    """Answer the call on the command line."""
    path = Path(sys.argv[1])
    program, *words = sys.argv[2:]
    code, text = answered(path, program, words)
    sys.stdout.buffer.write(f"{text}\r\n".encode("utf-16-le" if program == "nssm" else "ascii"))
    return code


if __name__ == "__main__":
    sys.exit(main())
