"""Kills of icot.sample: with a model of this machine, and with a server, which counts."""

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import count as count_up
from pathlib import Path

from icot.inference.request_cache import FILE
from icot.methods.scotd.corpus import SAMPLES, read_corpus, read_settings
from tests.chaos.commands import STAGES
from tests.chaos.harness import (
    SECONDS,
    Outcome,
    Process,
    complete,
    finish,
    kill,
    start,
    undisturbed,
)
from tests.http_server import Reply, Server

# Many small batches, so that a kill is seldom between two of them.
LOCAL = ("teacher=run", "teacher.stage=0", "samples=80", "batch_size=16", "max_truncated=1")
KEY = "sk-of-the-kill-test-0123456789"
N, AT_ONCE = 4, 4
REMOTE = (
    *("task=mult2", "task.train_size=3000", "task.valid_size=10", "task.test_size=10"),
    *("teacher=endpoint", "teacher.model=m", f"teacher.concurrency={AT_ONCE}"),
    *(f"samples={N}", "shots=1", "paths.cache_dir=cache"),
)


def kills_of_sampling(folder: Path, count: int = 30, length: tuple[str, ...] = ()) -> Outcome:
    """Continued each time, the corpus of a run's model equals an undisturbed one."""
    name = "SIGKILL at random moments of icot.sample, continued each time"
    run = undisturbed(folder, "stages", *STAGES)
    command = (*LOCAL, f"teacher.run_dir={run}", *length)
    whole, killed = folder / "whole corpus", folder / "killed corpus"
    code, printed = complete(folder, *command, f"out='{whole}'", command="sample")
    assert code == 0, printed
    rng = random.Random(0)
    path = killed / SAMPLES
    lost: list[str] = []
    torn = during = 0
    for number in range(count):
        before = _size(path)
        process = start(folder, *command, f"out='{killed}'", command="sample")
        within = 0.2 if number % 4 else None  # the others at any moment, the start included
        ended = _strike(process, rng, within, lambda before=before: _size(path) > before)
        if ended is not None:
            lost.append(f"{name}, {number}: {ended}")
            break
        during += _size(path) > before
        torn += _size(path) > 0 and not path.read_bytes().endswith(b"\n")
    code, printed = complete(folder, *command, f"out='{killed}'", command="sample")
    if code != 0:
        lost.append(f"{name}: {code}: {printed[-500:]}")
    elif read_corpus(killed) != read_corpus(whole):  # a sample that is there twice is an error
        lost.append(f"{name}: the samples differ")
    elif read_settings(killed) != read_settings(whole):  # the content hash, too
        lost.append(f"{name}: {read_settings(killed)} is not {read_settings(whole)}")
    note = (
        f"{during} of them while samples were written, {torn} within a line; "
        f"{len(read_corpus(whole)):,} samples, the same content hash"
    )
    return Outcome(name, count, lost, note)


def kills_of_sampling_from_a_server(
    folder: Path, count: int = 30, length: tuple[str, ...] = ()
) -> Outcome:
    """Nothing that has been kept is lost or asked for again; what was in flight may be.

    Every text of the server is another one and names its question. After each kill the cache is
    read: of a question of which it holds m of N texts, at most N - m may be asked for from then on,
    up to the next kill, and in the end the corpus has each text that was ever in the cache.
    """
    name = "SIGKILL at random moments of icot.sample with a server, continued each time"
    serial = count_up()
    server = Server(
        lambda number, body: Reply(server.answer(body), after=0.02),
        lambda prompt, choice: f"{_question(prompt)} = text {next(serial)} #### 1",
    )
    command = (*REMOTE, f"teacher.base_url={server.base_url}", *length)
    out = folder / "corpus"
    rng = random.Random(0)
    lost: list[str] = []
    kept: set[str] = set()
    only_cached = 0
    with closing(server):
        for number in range(count + 1):
            held = Counter(text.partition(" = ")[0] for text in kept)
            before = len(server.bodies)
            process = start(folder, *command, f"out='{out}'", command="sample", OPENAI_API_KEY=KEY)
            if number < count:
                within = 0.3 if number % 4 else None
                ended = _strike(
                    process,
                    rng,
                    within,
                    lambda before=before: len(server.bodies) > before + AT_ONCE,
                )
                if ended is not None:
                    lost.append(f"{name}, {number}: {ended}")
                    break
            else:
                code, printed = finish(process)
                if code != 0:
                    lost.append(f"{name}: {code}: {printed[-500:]}")
            _wait(process, lambda: server.busy == 0)
            for body in server.bodies[before:]:
                held[_question(body["messages"][0]["content"])] += body.get("n", 1)
            twice = [question for question, asked in held.items() if asked > N]
            lost += [f"{name}, {number}: {question} was asked for again" for question in twice]
            cached = _cached_texts(folder / "cache")
            lost += [f"{name}, {number}: the cache lost {text}" for text in kept - cached]
            kept = cached
            only_cached += len(cached) - _size_in_lines(out / SAMPLES)
        asked = sum(body.get("n", 1) for body in server.bodies)
    samples = read_corpus(out)
    texts = {s.text for s in samples}
    questions = {s.index for s in samples}
    lost += [f"{name}: {text} is not in the corpus" for text in kept - texts]
    if {s.key for s in samples} != {(i, k) for i in questions for k in range(N)}:
        lost.append(f"{name}: there are gaps")
    if len(texts) != len(samples):
        lost.append(f"{name}: a text is there twice")
    in_flight = asked - len(samples)
    if in_flight > count * AT_ONCE * N:
        lost.append(f"{name}: {in_flight} texts were asked for again")
    leaks = [p for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    lost += [f"{name}: {path} holds the key" for path in leaks]
    note = (
        f"{len(samples):,} texts; {in_flight:,} were in flight at a kill ({AT_ONCE} requests at "
        f"most) and asked for again, none else; {only_cached:,} had arrived but were not yet in "
        "the corpus, and came from the cache"
    )
    return Outcome(name, count, lost, note)


def _strike(
    process: Process, rng: random.Random, within: float | None, has_begun: Callable[[], bool]
) -> str | None:
    """Kill a command at a random moment; says so if it had ended by itself.

    Args:
        process: the command.
        rng: draws the moment.
        within: so many seconds after ``has_begun``; None is two seconds after its start.
        has_begun: whether the command does what it is for.
    """
    if within is not None:
        _wait(process, has_begun)
    time.sleep(rng.uniform(0, 2 if within is None else within))
    ended = process.poll() is not None
    kill(process)
    printed = finish(process)[1]
    return f"ended by itself: {printed[-500:]}" if ended else None


def _wait(process: Process, is_so: Callable[[], bool]) -> None:
    """Until something is so, or the process has ended and a second has passed."""
    deadline = time.monotonic() + SECONDS
    while not is_so() and time.monotonic() < deadline:
        if process.poll() is not None:
            deadline = min(deadline, time.monotonic() + 1)
        time.sleep(0.005)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _size_in_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _question(prompt: str) -> str:
    return prompt.rpartition("Q: ")[2].partition("\n")[0]


def _cached_texts(folder: Path) -> set[str]:
    """The texts in the cache of requests."""
    if not (folder / FILE).exists():
        return set()
    with closing(sqlite3.connect(folder / FILE)) as database:
        try:
            rows = database.execute("SELECT completion FROM answers").fetchall()
        except sqlite3.OperationalError:  # killed before the tables were made
            return set()
    return {json.loads(row)["text"] for (row,) in rows}
