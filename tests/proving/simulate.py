"""``scripts/simulate``: many seeds of the simulated fleet, and what happened in them."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from proving.fleet_members import Member
from proving.fleet_simulation import Node, Violation, simulate

KINDS = {"plain": (Node,), "own": (Member,), "both": (Node, Member)}


def main() -> None:
    """Run many seeds, and say what happened."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Simulate gateways that share limits, among faults, on a clock and a network that exist in memory alone.",
        epilog="Examples: scripts/simulate --seeds 2000    scripts/simulate --nodes own --seeds 1 --first 1234",
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: %(default)s)")
    parser.add_argument(
        "--nodes",
        choices=KINDS,
        default="both",
        help="plain: nodes as simple as the protocol lets them be; own: the gateways' own code; both, one after the other (default)",
    )
    options = parser.parse_args()
    # Nodes say what they meet, thousands of times.
    logger = logging.getLogger("sluicegate")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        failed = sum(run(kind, options.first, options.seeds) for kind in KINDS[options.nodes])
    finally:
        logger.setLevel(level)
    print(f"{failed} seeds broke a promise" if failed else "no promise was broken")
    sys.exit(bool(failed))


def run(kind: type[Node], first: int, seeds: int) -> int:
    """Run seeds with nodes of a kind; return how many broke a promise."""
    counts: Counter[str] = Counter()
    steps, failed, began = 0, 0, time.process_time()
    for seed in range(first, first + seeds):
        try:
            world = simulate(seed, kind)
        except Violation as e:
            failed += 1
            print(f"{e} (--nodes {'own' if kind is Member else 'plain'})", flush=True)
        else:
            steps += world.steps
            counts += world.tally
    what = "the gateways' own code" if kind is Member else "plain nodes"
    took = time.process_time() - began
    print(f"seeds {first} to {first + seeds - 1}, {what}: {steps} steps in {took:.0f} CPU s")
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    return failed


if __name__ == "__main__":
    main()
