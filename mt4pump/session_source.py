"""Where sessions come from: the vendor's library or the simulator, as the settings say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mt4pump.mt4.manager import Manager, ManagerFactory
from mt4pump.publisher.binding import DirectSocket, SocketClass
from mt4pump.settings import Settings
from mt4pump.settings.wire_faults import wire_faults_of

if TYPE_CHECKING:
    from mt4pump.simulator.tick_formats import TickOptions

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """The ``factory`` of Managers, its ``counters``, ``start``, ``stop``.

    The DLL needs neither of the last two: its threads start and end with its sessions. ``socket_class`` makes the
    publishing socket.
    """

    factory: ManagerFactory
    counters: Callable[[], Mapping[str, int]]
    start: Callable[[], None] = lambda: None
    stop: Callable[[], None] = lambda: None
    socket_class: SocketClass = DirectSocket


def source_of(settings: Settings) -> Source:
    """Return the source that the settings name; raises StartError when it cannot be used."""
    return simulator_source(settings) if settings.source == "simulator" else dll_source(settings)


def working_folder(data_dir: Path, abandoned: int = 0) -> Path:
    """Return the working folder of the next session's interface, after ``abandoned`` ones."""
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
        # An interface that was not released may still write to its folder: the next one gets another folder.
        return DllManager(library, working_folder(settings.data_dir, DllManager.abandoned), settings.encoding)

    def counters() -> Mapping[str, int]:
        return {**library.callback.counters(), "abandoned_interfaces": DllManager.abandoned}

    return Source(factory, counters)


def simulator_source(settings: Settings) -> Source:
    """Make the simulated server; raises StartError when a tick file cannot be read."""
    from mt4pump.publisher.faults import FaultySocket, WireFaultCounters  # noqa: PLC0415 - not needed beside a DLL
    from mt4pump.simulator.options import SimulatorOptions, parse_fault  # noqa: PLC0415
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
    faults, wire_counters = wire_faults_of(settings.wire_faults), WireFaultCounters()

    def counters() -> Mapping[str, int]:
        return {**(asdict(wire_counters) if settings.wire_faults else {}), **simulator.counters()}

    socket_class: SocketClass = DirectSocket
    if faults.touch_messages:
        socket_class = partial(FaultySocket, faults=faults, tally=wire_counters, seed=settings.seed)
    return Source(simulator.manager, counters, simulator.start, simulator.stop, socket_class)


def tick_options(settings: Settings) -> TickOptions:
    """Return symbol, time zone and date order for tick files that do not contain them."""
    from mt4pump.simulator.tick_formats import TickOptions  # noqa: PLC0415

    return TickOptions(settings.tick_symbol, settings.tick_zone, settings.tick_dates)
