"""Signals outside training end the program at once; in training they are noted, but not twice."""

import os
import signal
import subprocess
import sys

import pytest

from icot.system.signals import Interrupted, Signals
from tests.conftest import REPOSITORY


@pytest.fixture
def handlers():
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_outside_training_the_program_ends_with_its_exit_code(handlers, number, code):
    Signals().listen()
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == code


def test_in_training_it_is_noted_and_acted_on_later(handlers):
    signals = Signals()
    signals.postpone()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.received == signal.SIGTERM
    with pytest.raises(Interrupted) as ended:
        signals.deliver()
    assert ended.value.code == 143
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_interrupt_exits_at_once_without_tidying_up():
    program = """
import os, signal
from icot.system.signals import signals
signals.postpone()
signals.at_once = lambda: print("at once", flush=True)
try:
    os.kill(os.getpid(), signal.SIGINT)
    print("noted", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
finally:
    print("tidied up", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )
    assert done.returncode == 130
    assert done.stdout == "noted\nat once\n"
    assert "SIGINT: saving after this batch; Ctrl-C again stops at once." in done.stderr


def test_further_processes_of_a_run_end_quietly():
    assert Interrupted(signal.SIGTERM, is_main=False).code == 0
