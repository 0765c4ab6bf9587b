"""Kills of the commands that write: what stood before stands, and the next try is whole."""

import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.harness import Outcome, complete, finish, kill, start, undisturbed

Files = dict[str, str]
STAGES = ("checkpoints.every_stage=true",)
TIMES = ("evaluated", "scoring_seconds")  # of an evaluation, which differ from one to the next
LINES = ("task=mult2", "task.train_size=4000", "task.valid_size=40", "task.test_size=10")


def kills_of_commands(folder: Path, count: int = 25) -> list[Outcome]:
    """Kill each command so often, at random moments of its time."""
    undisturbed(folder, "stages", *STAGES)
    return [
        kills_of_evaluate(folder, count),
        kills_of_export(folder, count),
        *kills_of_prepare(folder, count),
    ]


def kills_of_evaluate(folder: Path, count: int) -> Outcome:
    """Every other time into a folder of its own, which the next evaluation takes too."""
    run = undisturbed(folder, "stages", *STAGES)
    name = "SIGKILL at random moments of icot.evaluate stage=all"
    command = (f"run_dir={run}", "stage=all", "speed.examples=0", "examples=20")
    cache, out = "cache evaluate", folder / "evaluated"
    seconds, reference = _first(folder, "evaluate", cache, *command, f"out='{out}'", place=out)
    stages = _without_times(json.loads((reference / "evaluation.json").read_text()))["stages"]
    before = _files(run)
    lost: list[str] = []
    kept: set[tuple[Path, int]] = set()

    def judge(number: int, ended: bool) -> None:
        lost.extend(f"{name}, {number}: {text}" for text in _changed(before, _files(run)))
        is_whole = False
        for path in (*run.glob("evaluations/*/evaluation.json"), *out.rglob("evaluation.json")):
            found = _without_times(json.loads(path.read_text()))
            kept.add((path, len(found["stages"])))
            if found["stages"] != stages[: len(found["stages"])]:
                lost.append(f"{name}, {number}: {path} differs")
            is_whole |= path.parent == out and "unfinished" not in found
        if is_whole:  # the next one would be refused
            shutil.rmtree(out)

    def overrides(number: int) -> tuple[str, ...]:
        return (*command, *([f"out='{out}'"] if number % 2 else []))

    _kill_again_and_again(folder, "evaluate", cache, count, seconds, overrides, judge)
    code, printed = complete(
        folder, *command, f"paths.cache_dir='{cache}'", f"out='{out}'", command="evaluate"
    )
    if code != 0:
        lost.append(f"{name}: {code}: {printed[-500:]}")
    else:
        lost += [f"{name}: {text}" for text in _different_evaluations(reference, out)]
    lost += _leftovers(name, folder / cache, run, run / "evaluations", out, folder)
    return Outcome(
        name,
        count,
        lost,
        f"results of some stages were left {len(kept)} times, each as it should be",
    )


def kills_of_export(folder: Path, count: int) -> Outcome:
    """The folder is whole, or is not there; the run directory is as it was."""
    run = undisturbed(folder, "stages", *STAGES)
    name = "SIGKILL at random moments of icot.export"
    cache, out = "cache export", folder / "exported"
    command = (f"run_dir={run}", f"out='{out}'")
    seconds, reference = _first(folder, "export", cache, *command, place=out)
    before, whole = _files(run), _files(reference)
    lost: list[str] = []
    there = 0

    def judge(number: int, ended: bool) -> None:
        nonlocal there
        lost.extend(f"{name}, {number}: {text}" for text in _changed(before, _files(run)))
        if out.exists():
            there += 1
            lost.extend(f"{name}, {number}: {text}" for text in _changed(whole, _files(out)))
            shutil.rmtree(out)

    _kill_again_and_again(folder, "export", cache, count, seconds, lambda _: command, judge)
    code, printed = complete(folder, *command, f"paths.cache_dir='{cache}'", command="export")
    if code != 0:
        lost.append(f"{name}: {code}: {printed[-500:]}")
    else:
        lost += [f"{name}: {text}" for text in _changed(whole, _files(out))]
    lost += _leftovers(name, folder / cache, run, out, folder)
    return Outcome(name, count, lost, f"the folder was there {there} times, whole")


def kills_of_prepare(folder: Path, count: int) -> list[Outcome]:
    """Into a new folder, and over what another seed has made."""
    outcomes = []
    for what, earlier in (("into a new folder", ()), ("over earlier files", ("seed=7",))):
        name = f"SIGKILL at random moments of icot.prepare, {what}"
        cache, out = f"cache {what}", folder / f"prepared {what}"
        command = (*LINES, f"out='{out}'")
        seconds, reference = _first(folder, "prepare", cache, *command, place=out)
        states = [_files(reference)]
        if earlier:
            _, made = _first(folder, "prepare", cache, *command, *earlier, place=out)
            states.append(_files(made))
            shutil.copytree(made, out)
        lost: list[str] = []
        new = 0

        def judge(
            number: int,
            ended: bool,
            out: Path = out,
            states: list[Files] = states,
            lost: list[str] = lost,
            name: str = name,
        ) -> None:
            nonlocal new
            if not out.exists() and len(states) == 1:
                return
            if (found := _files(out)) not in states:
                lost.append(f"{name}, {number}: neither the old files nor the new: {sorted(found)}")
            new += found == states[0]
            shutil.rmtree(out)
            if len(states) > 1:
                shutil.copytree(folder / f"first {out.name} seed=7", out)

        def overrides(number: int, command: tuple[str, ...] = command) -> tuple[str, ...]:
            return command

        _kill_again_and_again(folder, "prepare", cache, count, seconds, overrides, judge)
        code, printed = complete(folder, *command, f"paths.cache_dir='{cache}'", command="prepare")
        if code != 0 or _files(out) != states[0]:
            lost.append(f"{name}: {code}: {printed[-500:]}")
        lost += _leftovers(name, folder / cache, out, folder)
        outcomes.append(Outcome(name, count, lost, f"the new files were there {new} times, whole"))
    return outcomes


def _first(
    folder: Path, command: str, cache: str, *overrides: str, place: Path
) -> tuple[float, Path]:
    """Run a command undisturbed; how long it took, and what it wrote, moved out of the way."""
    begun = time.monotonic()
    code, printed = complete(folder, *overrides, f"paths.cache_dir='{cache}'", command=command)
    seconds = time.monotonic() - begun
    assert code == 0, printed
    extra = " seed=7" if "seed=7" in overrides else ""
    return seconds, place.rename(folder / f"first {place.name}{extra}")


def _kill_again_and_again(
    folder: Path,
    command: str,
    cache: str,
    count: int,
    seconds: float,
    overrides: Callable[[int], tuple[str, ...]],
    judge: Callable[[int, bool], Any],
) -> None:
    """Kill a command at random moments; every third time it builds its cache anew.

    Args:
        seconds: that it takes undisturbed.
        overrides: of the command, by the number of the try.
        judge: called after each, with its number and whether the command ended before the kill.
    """
    rng = random.Random(0)
    for number in range(count):
        if number % 3 == 0:
            shutil.rmtree(folder / cache, ignore_errors=True)
        process = start(folder, *overrides(number), f"paths.cache_dir='{cache}'", command=command)
        time.sleep(rng.uniform(0, seconds))
        ended = process.poll() is not None
        kill(process)
        finish(process)
        judge(number, ended)


def _files(folder: Path) -> Files:
    """The checksum of each file, without hidden ones and what evaluations add to a run."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
        and not path.name.startswith(".")
        and not {"evaluations", "evaluations.csv", "evaluation.json"} & set(path.parts)
    }


def _changed(before: Files, after: Files) -> list[str]:
    names = sorted({*before, *after})
    return [f"{name} has changed" for name in names if before.get(name) != after.get(name)]


def _different_evaluations(one: Path, two: Path) -> list[str]:
    found = [f"{name} has changed" for name in _changed(_files(one), _without_aside(two))]
    a, b = (_without_times(json.loads((p / "evaluation.json").read_text())) for p in (one, two))
    return found + ([] if a == b else ["evaluation.json differs"])


def _without_aside(folder: Path) -> Files:
    """The files of an evaluation, without those of killed ones."""
    return {k: v for k, v in _files(folder).items() if not k.startswith("unfinished")}


def _without_times(record: Any) -> Any:
    if isinstance(record, dict):
        return {k: _without_times(v) for k, v in record.items() if k not in TIMES}
    return [_without_times(v) for v in record] if isinstance(record, list) else record


def _leftovers(name: str, *folders: Path) -> list[str]:
    """Half-written files and folders; the files of locks may stay, and Hydra's folder."""
    hidden = [path for folder in folders for path in folder.glob(".*")]
    return [
        f"{name}: {path} is left over"
        for path in hidden
        if not path.name.endswith(".lock") and path.name != ".hydra"
    ]
