"""Signals that ask the program to stop, and how it stops.

    SIGTERM, SIGINT (Ctrl-C), SIGUSR1 (Slurm's --signal)    save at the next batch, then exit
    a second SIGINT                                         exit at once

The exit code is 128 plus the signal's number: 143, 130, 138. Outside training there is nothing to
save, and the program stops at once.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interrupted(SystemExit):
    """A signal has ended the program.

    Args:
        number: of the signal.
        is_main: whether this is the main process of the run; others exit with 0, so that their
            launcher does not treat them as crashed.
    """

    def __init__(self, number: int, is_main: bool = True) -> None:
        super().__init__(exit_code(number) if is_main else 0)


def exit_code(number: int) -> int:
    """The exit code after a signal, as in shells."""
    return 128 + number


def requeue_job() -> bool:
    """Requeue this process's Slurm job; False if there is no job or Slurm refuses.

    The same command, with ``resume=``, then resumes the run.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")
    if not job:
        return False
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


class Signals:
    """The signals that this process has received.

    Attributes:
        received: the number of the first signal since training began, None before.
        at_once: called before the process exits without cleanup.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.at_once: Callable[[], None] | None = None
        self._postponed = False
        self._interrupts = 0
        self._process = os.getpid()

    def listen(self) -> None:
        """Start handling signals; does nothing outside the main thread."""
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def postpone(self) -> None:
        """Only record signals until ``deliver``; training acts on them between two batches."""
        self.received, self._interrupts, self._postponed = None, 0, True
        self.listen()

    def deliver(self) -> None:
        """Act on signals at once again, and on a recorded one.

        Raises:
            Interrupted: a signal has been recorded.
        """
        self.act_at_once()
        if self.received is not None:
            raise Interrupted(self.received)

    def act_at_once(self) -> None:
        """Act on later signals at once again."""
        self._postponed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data loader's worker; its parent ends it
            if number == signal.SIGTERM:
                os._exit(exit_code(number))
            return
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            if self.at_once is not None:
                self.at_once()
            os._exit(exit_code(number))
        if not self._postponed:
            raise Interrupted(number)
        if self.received is None:
            self.received = number
            name = signal.Signals(number).name
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            os.write(2, f"\n{name}: saving after this batch{again}.\n".encode())


signals = Signals()  # of this process
