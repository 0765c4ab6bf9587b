"""The command: runs the experiments that it is told, prints and writes what they found."""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos import inputs, interruptions, memory, storage
from tests.chaos.harness import Outcome

Experiment = Callable[[Path], list[Outcome]]


def experiments(count: int | None) -> dict[str, Experiment]:
    """By name; ``count`` in place of each one's own number."""
    return {
        "moments": lambda folder: [interruptions.moments(folder)],
        "kills": lambda folder: [interruptions.kills(folder, count or 50)],
        "signals": lambda folder: [
            interruptions.signals(folder, count or 10),
            interruptions.two_interrupts(folder),
            interruptions.signals_of_two_ranks(folder),
        ],
        "disk": storage.disk,
        "damage": lambda folder: [storage.damage(folder, count or 200)],
        "input": lambda folder: [
            inputs.text_files(folder, count or 10_000),
            inputs.overrides(folder, count or 2_000),
        ],
        "memory": lambda folder: [memory.memory(folder)],
    }


def main() -> None:
    """Run the experiments; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(experiments(None))}; default all")
    parser.add_argument("--count", type=int, help="how often, where an experiment repeats")
    parser.add_argument("--out", type=Path, help="a JSON file for the outcomes")
    parser.add_argument("--folder", type=Path, help="where the runs go; kept then")
    arguments = parser.parse_args()
    known = experiments(arguments.count)
    unknown = set(arguments.names) - set(known)
    if unknown:
        parser.error(f"no such experiment: {', '.join(sorted(unknown))}")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.names or known:
            folder = (arguments.folder or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            begun = time.monotonic()
            for outcome in known[name](folder):
                outcomes.append(outcome)
                print(
                    f"{outcome.name}: {outcome.tried} tried, {len(outcome.lost)} lost", flush=True
                )
                for line in outcome.lost:
                    print(f"  {line}", flush=True)
            print(f"  ({time.monotonic() - begun:.0f} s)", flush=True)
    table = Table("what", "tried", "lost", "note")
    for o in outcomes:
        table.add_row(o.name, f"{o.tried:,}", str(len(o.lost)), o.note)
    Console().print(table)
    if arguments.out:
        record = {"machine": platform.platform(), "outcomes": [asdict(o) for o in outcomes]}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(any(o.lost for o in outcomes))


if __name__ == "__main__":
    main()
