"""Answers of servers on disk, so that none is lost and none is asked for twice.

One SQLite file for all commands; an answer is on disk before its caller sees it. Failures are kept
in a table of their own and never returned.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from threading import Lock

from icot.errors import RunError
from icot.inference.completions import Completion

FILE = "requests.sqlite"
WAIT_FOR_OTHERS = 60.0  # seconds, while another process writes
TABLES = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, written TEXT, completion TEXT);
CREATE TABLE IF NOT EXISTS failures (key TEXT, written TEXT, message TEXT);
"""


class RequestCache:
    """The cache in a folder, for all threads of a process.

    Args:
        folder: made if it does not exist.

    Raises:
        RunError: it cannot be read or written, also by each method.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._lock = Lock()
        with self._explained():
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self.path,
                timeout=WAIT_FOR_OTHERS,
                check_same_thread=False,
            )
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(TABLES)

    def get(self, key: str) -> Completion | None:
        """The answer to a request, if it has been given."""
        with self._explained(), self._lock:
            row = self._database.execute(
                "SELECT completion FROM answers WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else Completion(**json.loads(row[0]))

    def put(self, answers: dict[str, Completion]) -> None:
        """Keep answers by their keys; on disk when this returns."""
        rows = [(key, _now(), json.dumps(asdict(one))) for key, one in answers.items()]
        with self._explained(), self._lock, self._database:  # one transaction
            self._database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", rows)

    def put_failure(self, key: str, message: str) -> None:
        """Keep why a request failed."""
        with self._explained(), self._lock, self._database:
            self._database.execute("INSERT INTO failures VALUES (?, ?, ?)", (key, _now(), message))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise RunError(
                f"{self.path}: the answers of servers cannot be kept there ({error}). Free disk "
                "space, set paths.cache_dir= to another folder, or move a damaged file away; then "
                "start the same command again."
            ) from None


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")
