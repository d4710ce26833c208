"""Where sessions come from: the vendor's library, or the simulator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mt4pump.manager_api.manager import Manager, ManagerFactory
from mt4pump.publishing.publisher import Publisher
from mt4pump.settings import Settings

if TYPE_CHECKING:
    from mt4pump.simulator.tick_formats import TickOptions

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """A factory of sessions, what it counts itself, what to call at the daemon's start and stop, and what publishes."""

    factory: ManagerFactory
    counters: Callable[[], Mapping[str, int]]
    start: Callable[[], None]
    stop: Callable[[], None]
    publisher: Callable[..., Publisher] = Publisher


def source_of(settings: Settings) -> Source:
    """Return the source that the settings name; raises StartError when it is not to be had."""
    if settings.source == "simulator":
        return simulator_source(settings)
    return dll_source(settings)


def working_folder(data_dir: Path, abandoned: int = 0) -> Path:
    """Return where the library of a session keeps its files, after so many ``abandoned`` interfaces."""
    return data_dir / f"manager-{abandoned}"


def dll_source(settings: Settings) -> Source:
    """Load the vendor's library; raises LibraryError."""
    from mt4pump.bridge.dll_log import too_deep  # noqa: PLC0415
    from mt4pump.bridge.dll_manager import DllManager  # noqa: PLC0415 - ctypes stays out where no DLL is used
    from mt4pump.bridge.library import find, load  # noqa: PLC0415

    library = load(find(settings.dll_path))
    log.info("library %s, build %d", library.path, library.build)
    if fault := too_deep(working_folder(settings.data_dir)):
        log.warning("%s", fault)

    def factory() -> Manager:
        # An interface that could not be released may still write to its folder: the next gets another one.
        return DllManager(library, working_folder(settings.data_dir, DllManager.abandoned), settings.encoding)

    def counters() -> Mapping[str, int]:
        return {**library.callback.counters(), "abandoned_interfaces": DllManager.abandoned}

    return Source(factory, counters, _nothing, _nothing)


def simulator_source(settings: Settings) -> Source:
    """Make the simulated server; raises StartError when a tick file cannot be read."""
    from mt4pump.publishing.faulty_publisher import FaultyPublisher, WireTally  # noqa: PLC0415 - not needed beside a DLL
    from mt4pump.publishing.wire_faults import wire_faults_of  # noqa: PLC0415
    from mt4pump.simulator.faults import parse_fault  # noqa: PLC0415
    from mt4pump.simulator.options import SimulatorOptions  # noqa: PLC0415
    from mt4pump.simulator.server import Simulator  # noqa: PLC0415

    simulator = Simulator(
        SimulatorOptions(
            ticks=settings.ticks,
            tick_options=tick_options(settings),
            speed=settings.speed,
            seed=settings.seed,
            rate=settings.rate,
            accounts=settings.accounts,
            faults=tuple(parse_fault(text) for text in settings.faults),
            encoding=settings.encoding,
        )
    )

    faults, tally = wire_faults_of(settings.wire_faults), WireTally()

    def counters() -> Mapping[str, int]:
        return {
            **(tally.counters() if settings.wire_faults else {}),
            "ticks_sent": simulator.ticks_sent,
            "ticks_unseen": simulator.ticks_unseen,
            "events_sent": simulator.events_sent,
            "events_skipped": simulator.events_skipped,
            "bad_lines": simulator.bad_lines,
            "late_lines": simulator.late_lines,
            "quotes_unread": simulator.line.unread,
        }

    publisher: Callable[..., Publisher] = Publisher
    if faults.touch_messages:
        publisher = partial(FaultyPublisher, faults=faults, tally=tally, seed=settings.seed)
    return Source(simulator.manager, counters, simulator.start, simulator.stop, publisher)


def tick_options(settings: Settings) -> TickOptions:
    """Return what the settings tell about tick files that do not tell it themselves."""
    from mt4pump.simulator.tick_formats import TickOptions  # noqa: PLC0415

    return TickOptions(settings.tick_symbol, settings.tick_zone, settings.tick_dates)


def _nothing() -> None:
    """Start and stop nothing: the DLL's threads live and die with its sessions."""
