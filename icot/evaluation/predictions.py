"""Predictions, one JSON object per line.

    {"question": "2 1 * 3 1", "target": "#### 6 5 1", "prediction": "#### 6 5 1", ...}

To score a file, only ``target`` and ``prediction`` are needed; any program may write it.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icot.errors import DataError
from icot.system.files import replace_file


@dataclass(frozen=True)
class WrongToken:
    """Where an output first differs from its target.

    Attributes:
        position: the number of tokens before it.
        expected, written: the two tokens' texts.
    """

    position: int
    expected: str
    written: str


@dataclass(frozen=True)
class Prediction:
    """A question, its target and what was written.

    Attributes:
        index: the example's index in its split or file, from 0.
        tokens: tokens written, including separators; None if only the text is known.
        first_wrong: the first wrong token of a wrong output, if its tokens are known.
    """

    index: int
    question: str
    target: str
    prediction: str
    correct: bool
    tokens: int | None = None
    first_wrong: WrongToken | None = None


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as JSON lines.

    Raises:
        RunError: the file cannot be written.
    """
    with replace_file(path) as file:
        for prediction in predictions:
            file.write(json.dumps(asdict(prediction), ensure_ascii=False) + "\n")


def read_predictions(path: Path, is_correct: Callable[[str, str], bool]) -> list[Prediction]:
    """Read and score the lines of a file; its own values of ``correct`` are ignored.

    Raises:
        DataError: the file cannot be read, is empty, or has a line that is not in the format; the
            message names file and line.
    """
    found = [
        Prediction(
            index=index,
            question=str(line.get("question", "")),
            target=line["target"],
            prediction=line["prediction"],
            correct=is_correct(line["prediction"], line["target"]),
        )
        for index, line in enumerate(_lines(path))
    ]
    if not found:
        raise DataError(f"{path}: the file is empty; each line must be a JSON object.")
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                try:
                    yield _check_line(json.loads(raw))
                except (ValueError, RecursionError) as error:  # includes JSON and UTF-8 errors
                    reason = error if type(error) is ValueError else "is not JSON"
                    raise DataError(
                        f"{path}, line {number}: {reason}. A line must be a JSON object with the "
                        'strings "target" and "prediction".'
                    ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


def _check_line(line: Any) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise ValueError("is not a JSON object")
    for key in ("target", "prediction"):
        if key not in line:
            raise ValueError(f'has no "{key}"')
        if not isinstance(line[key], str):
            raise ValueError(f'"{key}" is not a string')
    for key in ("question", "target", "prediction"):
        try:
            str(line.get(key)).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f'"{key}" contains half of a character') from None
    return line
