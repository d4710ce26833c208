"""Which test files ``python -m tests --quick`` leaves out: those that start processes or servers, or take seconds."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
FOLDERS = ("bench", "chaos", "deploy", "samples", "vendor", "wine")
FILES = (
    *(f"bridge/test_{name}.py" for name in ("callback", "close", "console", "dll_manager", "interface", "library")),
    "bridge/test_trips.py",
    *(
        f"cli/test_{name}.py"
        for name in ("bench", "check", "demo", "main", "operations", "record_and_play", "run", "stdio", "tail")
    ),
    *(
        f"client/test_{name}.py"
        for name in ("connection_fault", "stream_in_all_orders", "with_daemon", "malformed", "subscriber")
    ),
    *(
        f"consumers/archive/test_archive_{name}.py"
        for name in (
            "clickhouse",
            "databases",
            "databases_program",
            "folder",
            "import",
            "journals",
            "kills",
            "postgresql",
            "program",
            "reading",
            "tls",
        )
    ),
    *(f"consumers/gateway/test_{name}.py" for name in ("abuse", "conflation", "gateway", "gateway_fuzz", "page")),
    *(f"consumers/gateway/test_{name}.py" for name in ("requests", "tls")),
    *(f"consumers/metrics/test_{name}.py" for name in ("alert_rules", "metrics_program", "metrics_server")),
    "consumers/metrics/test_real_prometheus.py",
    *(f"consumers/monitor/test_monitor_{name}.py" for name in ("recorder", "keys", "kills", "program", "webhook")),
    *(f"consumers/test_{name}.py" for name in ("descriptors", "health")),
    *(f"consumers/nats_bridge/test_nats_{name}.py" for name in ("bridge", "connection", "kills", "quarantine")),
    *(f"journal/test_{name}.py" for name in ("checkpointer", "crash")),
    *(f"process/test_{name}.py" for name in ("data_folder", "parent_watch", "signal_safe_event", "stop")),
    "protocol/test_traffic.py",
    *(f"publisher/test_{name}.py" for name in ("limits", "restart_fault", "slow_readers")),
    *(f"query/test_{name}.py" for name in ("connections", "fuzz", "server")),
    *(f"security/test_{name}.py" for name in ("authenticator", "matrix")),
    *(f"service/test_{name}.py" for name in ("powershell", "service")),
    *(f"simulator/test_{name}.py" for name in ("many_accounts", "replay", "server")),
    *(
        f"test_{name}.py"
        for name in ("daemon", "dll_daemon", "hang_detector", "joins", "large_tables", "outages", "permission_matrix")
    ),
    *(f"test_{name}.py" for name in ("private_files", "readme", "repeat", "replay", "resets", "sliced_comparison")),
)


def is_slow(path: Path) -> bool:
    """Return whether ``path`` is a file or a folder that the quick checks leave out."""
    try:
        name = path.resolve().relative_to(TESTS).as_posix()
    except ValueError:
        return False
    return name in FILES or any(name == folder or name.startswith(f"{folder}/") for folder in FOLDERS)
