"""A command's folder is written by one process, and whole or not at all."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from icot.errors import RunError
from icot.system.locks import lock_file
from icot.system.output import lock_output, write_at_once


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def written(out, **texts: str) -> None:
    with lock_output(out), write_at_once(out) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text)


def killed_while_writing(out, name: str) -> None:
    """A process of its own that is killed when half is written."""
    child = os.fork()
    if child == 0:
        with lock_output(out), write_at_once(out) as folder:
            (folder / name).write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_killed_process_leaves_nothing_or_what_was_there(tmp_path):
    out = tmp_path / "out"
    killed_while_writing(out, "a")
    assert not out.exists()
    written(out, a="1", b="2")
    assert names(tmp_path) == ["out"]
    killed_while_writing(out, "a")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a": "1", "b": "2"}
    written(out, a="3")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a": "3", "b": "2"}
    assert names(tmp_path) == ["out"]


def test_an_error_on_the_way_leaves_what_was_there(tmp_path):
    (tmp_path / "out").mkdir()
    with suppress(ZeroDivisionError), write_at_once(tmp_path / "out") as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == []


def test_a_second_process_is_told_of_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path / "out", tmp_path / "new" / "out"):
        with (
            lock_output(out),
            pytest.raises(RunError, match=rf"another process .* \(process {os.getpid()} on "),
            lock_output(out.parent / "." / "out"),
        ):
            pass
        assert names(out.parent) == []


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_lock_that_its_holder_removes_is_still_one(tmp_path):
    """Whoever has opened the file before it was removed takes the new one."""
    path = tmp_path / "lock"
    begun = Event()
    held: list[bool] = []

    def wait() -> None:
        begun.set()
        with lock_file(path, keep=False):
            held.append(path.exists())

    waiting = Thread(target=wait, daemon=True)
    with lock_file(path, keep=False):
        descriptors = count_descriptors()
        waiting.start()
        assert begun.wait(10)
        while count_descriptors() == descriptors:  # until it has opened the file
            time.sleep(0.01)
        time.sleep(0.1)
    waiting.join(10)
    assert held == [True]
