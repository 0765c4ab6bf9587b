"""Kills and signals: the run goes on and ends as if nothing had happened."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.harness import (
    LONG,
    SECONDS,
    Outcome,
    Process,
    complete,
    differences,
    finish,
    kill,
    make_overrides,
    start,
    undisturbed,
    wait_for_training,
)
from tests.chaos.moments import MOMENTS
from tests.small import TWO_RANKS

DDP = ("trainer=ddp", *TWO_RANKS, "data.batch_size=8")
# What a run does beside its plain form, and the moments at which that matters.
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain": ((), MOMENTS),
    "accumulation": (
        ("trainer.accumulate_grad_batches=3",),
        ("mid-epoch", "last batch of an epoch", "end of a stage", "during validation"),
    ),
    "adaptive": (
        ("schedule=adaptive", "schedule.patience=4", "schedule.tokens_per_stage=1"),
        ("mid-epoch", "end of a stage", "just before full removal", "just after full removal"),
    ),
    "muon and workers": (
        ("optimizer=muon", "data.num_workers=2", "data.max_train_tokens=20"),
        ("mid-epoch", "end of an epoch", "during a checkpoint write"),
    ),
    "two ranks": (DDP, ("mid-epoch", "end of a stage", "during a checkpoint write")),
}


def moments(folder: Path, chosen: dict[str, tuple[str, ...]] | None = None) -> Outcome:
    """Kill once at each named moment, go on, compare."""
    lost: list[str] = []
    tried: dict[str, int] = {}
    for variant, (overrides, names) in VARIANTS.items():
        wanted = names if chosen is None else chosen.get(variant, ())
        for moment in wanted:
            tried[variant] = tried.get(variant, 0) + 1
            reference = undisturbed(folder, f"undisturbed {variant}", *overrides)
            lost += _killed_at(folder, variant, moment, reference, overrides)
    note = ", ".join(f"{variant}: {number}" for variant, number in tried.items())
    return Outcome("SIGKILL at a named moment", sum(tried.values()), lost, note)


def _killed_at(
    folder: Path, variant: str, moment: str, reference: Path, overrides: tuple[str, ...]
) -> list[str]:
    name = f"{variant} {moment}"
    marker = folder / f"{name}.struck"
    command = (
        *make_overrides(*overrides),
        "resume=auto",
        f"hydra.run.dir='{name}'",
        "+callbacks.kill._target_=tests.chaos.moments.KillAt",
        f"+callbacks.kill.moment='{moment}'",
        f"+callbacks.kill.marker='{marker}'",
    )
    process = start(folder, *command)
    code = process.wait(timeout=SECONDS)
    kill(process)
    printed = process.communicate()[0]
    if code != -signal.SIGKILL or not marker.exists():
        return [f"{name}: was not killed ({code}): {printed[-500:]}"]
    code, printed = complete(folder, *command)
    if code != 0:
        return [f"{name}: did not go on ({code}): {printed[-500:]}"]
    return differences(reference, folder / name)


def kills(folder: Path, count: int = 50, length: tuple[str, ...] = LONG) -> Outcome:
    """Kill one run again and again at random moments, from its first second on."""
    name = "SIGKILL at random moments of one run, resumed each time"
    return _again_and_again(folder, [signal.SIGKILL] * count, name, length)


TWO = (*DDP, "trainer.max_epochs=40", "validation.examples=10")


def kills_of_two_ranks(folder: Path, count: int = 8, length: tuple[str, ...] = TWO) -> Outcome:
    """Kill both processes of a run of two; it is resumed and ends as the undisturbed one."""
    name = "SIGKILL at random moments of a run on two ranks, resumed each time"
    return _again_and_again(
        folder, [signal.SIGKILL] * count, name, length, "undisturbed, two ranks"
    )


def signals(folder: Path, count: int = 10, length: tuple[str, ...] = LONG) -> Outcome:
    """The same with signals that can be answered: exit code, message, checkpoint."""
    sequence = [signal.SIGTERM, signal.SIGINT] * count
    name = "SIGTERM and SIGINT at random moments"
    return _again_and_again(folder, sequence, name, length)


def _again_and_again(
    folder: Path,
    sequence: list[signal.Signals],
    name: str,
    length: tuple[str, ...],
    undisturbed_name: str = "undisturbed long",
) -> Outcome:
    rng = random.Random(0)
    reference = undisturbed(folder, undisturbed_name, *length)
    run = folder / name
    command = (*make_overrides(*length), "resume=auto", f"hydra.run.dir='{name}'")
    lost: list[str] = []
    in_training = 0
    for number, sent in enumerate(sequence):
        process = start(folder, *command)
        if number % 4 == 0:  # at any moment, the start included if no answer is expected
            time.sleep(rng.uniform(0 if sent == signal.SIGKILL else 1, 2))
        else:
            wait_for_training(process, run)
            time.sleep(rng.uniform(0, 1))
        before = process.poll()
        kill(process, sent)
        code, printed = finish(process)
        if before is not None:
            lost.append(f"{name}, {number}: ended by itself ({code}): {printed[-500:]}")
            break
        in_training += number % 4 != 0
        if sent != signal.SIGKILL:
            if code != 128 + sent or "Traceback" in printed:
                lost.append(f"{name}, {number}, {sent.name}: {code}: {printed[-500:]}")
            elif number % 4 and "resume=" not in printed:
                lost.append(f"{name}, {number}, {sent.name}: nothing saved: {printed[-500:]}")
    code, printed = complete(folder, *command)
    lost += differences(reference, run) if code == 0 else [f"{name}: {code}: {printed[-500:]}"]
    note = f"{in_training} of them during training batches"
    if signal.SIGKILL not in sequence:
        note += "; exit codes 143 and 130 each time"
    return Outcome(name, len(sequence), lost, note)


def signals_of_two_ranks(folder: Path) -> Outcome:
    """SIGTERM to the first process alone, SIGINT to all of them: both save and end together."""
    length = (*DDP, "trainer.max_epochs=12")
    reference = undisturbed(folder, "undisturbed two ranks", *length)
    name = "two ranks signalled"
    command = (*make_overrides(*length), "resume=auto", f"hydra.run.dir='{name}'")
    lost: list[str] = []
    sent: list[tuple[signal.Signals, Callable[[Process], None]]] = [
        (signal.SIGTERM, lambda process: process.send_signal(signal.SIGTERM)),
        (signal.SIGINT, lambda process: kill(process, signal.SIGINT)),
    ]
    for number, send in sent:
        process = start(folder, *command)
        wait_for_training(process, folder / name)
        send(process)
        code, printed = finish(process)
        if code != 128 + number or "Traceback" in printed or "resume=" not in printed:
            lost.append(f"{name}, {number.name}: {code}: {printed[-500:]}")
    code, printed = complete(folder, *command)
    lost += differences(reference, folder / name) if code == 0 else [f"{name}: {printed[-500:]}"]
    note = "SIGTERM to the first process alone, SIGINT to both"
    return Outcome("SIGTERM and SIGINT with two ranks", len(sent), lost, note)


def two_interrupts(folder: Path) -> Outcome:
    """A second Ctrl-C exits at once; the run goes on from its newest checkpoint."""
    reference = undisturbed(folder, "undisturbed long", *LONG)
    name = "interrupted twice"
    command = (*make_overrides(*LONG), "resume=auto", f"hydra.run.dir='{name}'")
    process = start(folder, *command)
    wait_for_training(process, folder / name)
    kill(process, signal.SIGINT)
    kill(process, signal.SIGINT)
    begun = time.monotonic()
    code, printed = finish(process)
    seconds = time.monotonic() - begun
    lost = [] if code == 130 else [f"{name}: {code}: {printed[-500:]}"]
    code, printed = complete(folder, *command)
    lost += differences(reference, folder / name) if code == 0 else [f"{name}: {printed[-500:]}"]
    return Outcome("two SIGINT in a row", 1, lost, f"exit after {seconds:.2f} s")
