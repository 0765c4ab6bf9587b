"""The command: runs the parts that it is told, and prints and writes what each has found."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the server of tests.running, before torch

from tests.chaos import (
    commands,
    fuzz,
    inputs,
    interruptions,
    memory,
    pipelines,
    sampling,
    storage,
)
from tests.chaos.harness import Outcome

Part = Callable[[Path], list[Outcome]]
ALL = "all"


def parts(count: int | None, seconds: int) -> dict[str, Part]:
    """By name; ``count`` in place of each one's own number."""
    return {
        "moments": lambda folder: [interruptions.moments(folder)],
        "kills": lambda folder: [
            interruptions.kills(folder, count or 50),
            interruptions.kills_of_two_ranks(folder, count or 8),
        ],
        "commands": lambda folder: commands.kills_of_commands(folder, count or 25),
        "pipeline": lambda folder: [pipelines.kills_of_pipeline(folder, count or 20)],
        "sample": lambda folder: [
            sampling.kills_of_sampling(folder, count or 30),
            sampling.kills_of_sampling_from_a_server(folder, count or 30),
        ],
        "signals": lambda folder: [
            interruptions.signals(folder, count or 10),
            interruptions.two_interrupts(folder),
            interruptions.signals_of_two_ranks(folder),
        ],
        "disk": storage.disk,
        "damage": lambda folder: [storage.damage(folder, count or 200)],
        "input": lambda folder: [
            inputs.text_files(folder, count or 10_000),
            inputs.predictions(folder, count or 10_000),
            inputs.overrides(folder, count or 1_000),
        ],
        "memory": lambda folder: [memory.memory(folder)],
        "fuzz": lambda folder: fuzz.fuzz(folder, seconds),
    }


def as_row(outcome: Outcome) -> str:
    """A row of the table of docs/reliability.md."""
    return f"| {outcome.name} | {outcome.tried:,} | {len(outcome.lost)} | {outcome.note} |"


def main() -> None:
    """Run the parts; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "names", nargs="+", help=f"of {', '.join(parts(None, 0))}, or {ALL}: each in full form"
    )
    parser.add_argument("--count", type=int, help="how often, where a part repeats")
    parser.add_argument("--seconds", type=int, default=120, help="of fuzzing each parser")
    parser.add_argument("--out", type=Path, help="a JSON file for the outcomes, after each part")
    parser.add_argument("--folder", type=Path, help="where the runs go; kept then")
    arguments = parser.parse_args()
    known = parts(arguments.count, arguments.seconds)
    names = list(known) if ALL in arguments.names else arguments.names
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    outcomes: list[Outcome] = []
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            folder = (arguments.folder or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            begun = time.monotonic()
            try:
                found = known[name](folder)
            except Exception as error:  # the other parts go on
                found = [Outcome(f"part {name}", 0, [f"did not end: {error!r}"])]
            seconds[name] = round(time.monotonic() - begun)
            outcomes += found
            for outcome in found:
                print(as_row(outcome), *outcome.lost, sep="\n  ", flush=True)
            print(f"({name}: {seconds[name]:.0f} s)", flush=True)
            if arguments.out:
                record = {
                    "machine": platform.platform(),
                    "seconds": seconds,
                    "outcomes": [asdict(o) for o in outcomes],
                }
                arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    print("\n| what | tried | lost | |\n| --- | --- | --- | --- |")
    print(*map(as_row, outcomes), sep="\n")
    print(f"\n{sum(seconds.values()) / 60:.0f} minutes")
    sys.exit(any(o.lost for o in outcomes))


if __name__ == "__main__":
    main()
