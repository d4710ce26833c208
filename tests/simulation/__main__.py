"""Play many seeds: ``python -m tests.simulation --seeds 10000``; one with its story: ``--seed 7 --story``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback

from tests.simulation.backend import Plan
from tests.simulation.simulation import EVENTS, Simulation


def main() -> int:
    """Play the seeds asked for; return 1 when one of them broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--events", type=int, default=EVENTS, help="least number of events of a seed")
    parser.add_argument("--story", action="store_true", help="print what happened, also where nothing is wrong")
    parser.add_argument(
        "--restores", action="store_true", help="the daemon may start with an older copy of its journal"
    )
    parser.add_argument("--failures", type=int, default=1, help="end after so many failures")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds = range(asked.first, asked.first + asked.seeds) if asked.seed is None else [asked.seed]
    began_s, failures, events, steps = time.perf_counter(), 0, 0, 0
    for seed in seeds:
        simulation = Simulation(seed, Plan(restores=asked.restores), events=asked.events)
        try:
            simulation.run()
        except Exception:  # noqa: BLE001 - a fault of any sort must be found
            failures += 1
            print("\n".join(simulation.story if asked.story or asked.seed is not None else simulation.story[-1:]))
            traceback.print_exc(limit=-3, file=sys.stdout)
            print(f"seed {seed} fails: python -m tests.simulation --seed {seed} --story --events {asked.events}")
            if failures >= asked.failures:
                break
        else:
            if asked.story:
                print("\n".join(simulation.story))
        events += len(simulation.ledger.events)
        steps += simulation.steps
    seconds = time.perf_counter() - began_s
    print(f"{len(seeds)} seeds, {events} events, {steps} steps, {failures} failures in {seconds:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
