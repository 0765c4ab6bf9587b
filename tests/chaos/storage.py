"""Disks that are full or read-only, files that are damaged, directories that two processes want."""

import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from icot.runs import checkpoint_file
from icot.runs.checkpoints import newest_intact
from tests.chaos.harness import (
    LONG,
    Outcome,
    complete,
    differences,
    finish,
    make_overrides,
    start,
    undisturbed,
    wait_for_training,
)

EXPLICIT = ("schedule=explicit", "checkpoints.every_steps=null", "trainer.max_epochs=40")

GROWING = ("checkpoint", "metrics", "cache")
FULL_DISK = "a full or read-only disk (tmpfs): checkpoint twice, metrics, cache, read-only"
REFUSED = "exit code 2, one message, earlier files intact, resumes once there is space"


def disk(folder: Path) -> list[Outcome]:
    """No room, no leave to write, files that may not grow; then room again."""
    outcomes = [file_size_limit(folder)]
    with _small_disk(folder / "disk") as resize:
        if resize is None:
            outcomes.append(
                Outcome("a full or read-only disk (tmpfs)", 0, [], "no tmpfs may be made here")
            )
        else:
            outcomes.append(_full_disk(folder, folder / "disk", resize))
    outcomes.append(two_on_one_directory(folder))
    outcomes.append(_two_on_one_cache(folder))
    outcomes.append(_damaged_cache(folder))
    return outcomes


@contextmanager
def _small_disk(folder: Path) -> Iterator[object]:
    """A file system of its own; yields a function that changes its options, None where none is."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return

    def change(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _refused(name: str, code: int, printed: str) -> list[str]:
    """What is wrong with the end of a run that could not write."""
    if code != 2 or "cannot be written" not in printed or "Traceback" in printed:
        return [f"{name}: exit code {code}: {printed[-800:]}"]
    return []


def _full_disk(folder: Path, place: Path, change) -> Outcome:  # type: ignore[no-untyped-def]
    lost: list[str] = []
    reference = undisturbed(folder, "undisturbed long", *LONG)
    command = (*make_overrides(*LONG), "resume=auto", f"hydra.run.dir={place / 'run'}")

    # At checkpoints: there is room for one of about 160 kB, then for two.
    for size in ("300k", "500k"):
        change(f"size={size}")
        lost += _refused(f"disk of {size}", *complete(folder, *command))
        _, damaged = newest_intact(place / "run")
        lost += [f"disk of {size}: {path.name} is damaged" for path in damaged]
    # At metrics: room for less than the next rows.
    change("size=20m")
    ballast = place / "ballast"
    process = start(folder, *command)
    wait_for_training(process, place / "run")
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass
    lost += _refused("disk filled by others", *finish(process))
    # At the cache, and with no leave to write at all.
    other = (*make_overrides(), f"paths.cache_dir={place / 'cache'}", "hydra.run.dir=other")
    lost += _refused("full disk at the cache", *complete(folder, *other))
    ballast.unlink()
    change("ro")
    lost += _refused("read-only disk", *complete(folder, *command))
    change("rw")
    code, printed = complete(folder, *command)
    lost += differences(reference, place / "run") if code == 0 else [printed[-800:]]
    return Outcome(
        FULL_DISK,
        5,
        lost,
        REFUSED,
    )


def _limited(size: int):  # type: ignore[no-untyped-def]
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def file_size_limit(folder: Path, chosen: tuple[str, ...] = GROWING) -> Outcome:
    """Files that may not grow beyond a limit."""
    lost: list[str] = []
    plain = undisturbed(folder, "undisturbed plain")
    cases = (  # what grows too large, bytes allowed, the run, its overrides
        ("checkpoint", 100_000, plain, ()),
        ("metrics", 70_000, folder / "undisturbed explicit", (*EXPLICIT, "trainer.max_epochs=80")),
        ("cache", 66_000, plain, ("task.train_size=5000", "paths.cache_dir=limited")),
    )
    for name, size, reference, overrides in cases:
        if name not in chosen:
            continue
        command = (*make_overrides(*overrides), "resume=auto", f"hydra.run.dir='limit {name}'")
        process = start(folder, *command, preexec=_limited(size))
        lost += _refused(f"file-size limit, {name}", *finish(process))
        if name == "cache":
            continue
        if name == "metrics":
            undisturbed(folder, reference.name, *EXPLICIT)
        code, printed = complete(folder, *command, *(EXPLICIT if name == "metrics" else ()))
        lost += differences(reference, folder / f"limit {name}") if code == 0 else [printed[-800:]]
    return Outcome(
        "a file size limit: checkpoint, metrics, cache",
        len(chosen),
        lost,
        REFUSED,
    )


def two_on_one_directory(folder: Path) -> Outcome:
    """The second process is refused, the first does not notice."""
    lost = []
    reference = undisturbed(folder, "undisturbed plain")
    command = (*make_overrides(), "resume=auto", "hydra.run.dir='two on one'")
    first = start(folder, *command)
    while first.poll() is None and not (folder / "two on one" / "metrics.csv").is_file():
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)  # so that it does not end before the second has begun
    code, printed = complete(folder, *command)
    first.send_signal(signal.SIGCONT)
    if code != 2 or "another process" not in printed:
        lost.append(f"the second process was let in ({code}): {printed[-500:]}")
    code, printed = finish(first)
    lost += differences(reference, folder / "two on one") if code == 0 else [printed[-500:]]
    return Outcome("two processes in one run directory", 1, lost, "the second is refused")


def _two_on_one_cache(folder: Path) -> Outcome:
    lost = []
    reference = undisturbed(folder, "undisturbed plain")
    names = ("one of two", "two of two")
    processes = [
        start(folder, *make_overrides(), "paths.cache_dir=shared", f"hydra.run.dir='{name}'")
        for name in names
    ]
    for name, process in zip(names, processes, strict=True):
        code, printed = finish(process)
        lost += differences(reference, folder / name) if code == 0 else [printed[-500:]]
    return Outcome("two processes that build one cache", 1, lost, "both correct")


def _damaged_cache(folder: Path) -> Outcome:
    lost = []
    reference = undisturbed(folder, "undisturbed plain")
    rng = random.Random(0)
    files = ("tokens.bin", "offsets.bin", "cot_start.bin", "cot_end.bin", "index.json")
    for name in files:
        shutil.rmtree(folder / "damaged", ignore_errors=True)
        shutil.copytree(folder / "cache", folder / "damaged")
        for path in (folder / "damaged").glob(f"*/{name}"):
            _flip(path, rng.randrange(path.stat().st_size))
        run = f"damaged {name}"
        code, printed = complete(
            folder, *make_overrides(), "paths.cache_dir=damaged", f"hydra.run.dir='{run}'"
        )
        if code != 0 or "is rebuilt" not in printed:
            lost.append(f"{run}: {code}: {printed[-500:]}")
        else:
            lost += differences(reference, folder / run)
    return Outcome("damaged cache", len(files), lost, "detected and rebuilt")


def damage(folder: Path, count: int = 200, resumed: int = 10) -> Outcome:
    """Flip a byte of a checkpoint, or cut it off; the one before is used."""
    lost = []
    reference = undisturbed(folder, "undisturbed plain")
    process = start(folder, *make_overrides(), "resume=auto", "hydra.run.dir=killed")
    metrics = folder / "killed" / "metrics.csv"
    while process.poll() is None and not (
        metrics.is_file() and metrics.read_bytes().count(b"\n") > 30
    ):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    killed = folder / "killed" / "checkpoints"
    last = (killed / "last.ckpt").read_bytes()
    before = max(killed.glob("step-*.ckpt"))
    rng = random.Random(0)
    for number in range(count):
        run = folder / "altered"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(folder / "killed", run)
        path = run / "checkpoints" / "last.ckpt"
        if number % 2:
            _flip(path, rng.randrange(len(last)))
        else:
            path.write_bytes(last[: rng.randrange(len(last))])
        found, damaged = newest_intact(run)
        if checkpoint_file.is_intact(path) or damaged != [path] or found is None:
            lost.append(f"alteration {number} was not noticed")
            continue
        if found.name != before.name:
            lost.append(f"alteration {number}: {found.name} is used")
        if number < resumed:
            code, printed = complete(
                folder, *make_overrides(), "resume=auto", "hydra.run.dir=altered"
            )
            if code != 0 or "damaged" not in printed or before.name not in printed:
                lost.append(f"alteration {number}: {code}: {printed[-500:]}")
            else:
                lost += differences(reference, run)
    note = f"{resumed} of them resumed and compared; the previous checkpoint was used each time"
    return Outcome("a checkpoint with one byte changed, or truncated", count, lost, note)


def _flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        old = file.read(1)
        file.seek(position)
        file.write(bytes([old[0] ^ (1 + position % 255)]))
