"""The files of ``icot.probe``: probe.csv has a row for each probe, probe.json what they show.

Both are written after each model. A command that was stopped, started again with the same settings,
goes on with the models that are missing.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from icot.errors import RunError
from icot.runs.layout import PROBE, PROBE_TABLE
from icot.system.files import explain_refusal, remove_partial_files, replace_file, write_text

COLUMNS = (
    "model", "stage", "tokens_removed", "target", "kind", "removed", "layer", "position", "n",
    "accuracy", "control", "selectivity", "token", "majority",
)  # fmt: skip
UNFINISHED = "unfinished"


class Record:
    """What has been probed so far, in a folder that the caller has locked.

    Args:
        folder: of the files.
        settings: what decides every number; a folder with other settings is refused.

    Raises:
        RunError: the folder holds finished probes, or those of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.content: dict[str, Any] = {"settings": json.loads(json.dumps(settings)), "models": []}
        self._rows: list[Mapping[str, Any]] = []
        with explain_refusal(folder):
            folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)
        if (folder / PROBE).is_file():
            self._continue()

    def _continue(self) -> None:
        try:
            found = json.loads((self.folder / PROBE).read_text(encoding="utf-8"))
            done = {one["model"] for one in found["models"]}
            with (self.folder / PROBE_TABLE).open(encoding="utf-8", newline="") as file:
                self._rows += (row for row in csv.DictReader(file) if row["model"] in done)
        except (OSError, ValueError, LookupError, TypeError):
            raise RunError(
                f"{self.folder} holds probes that cannot be read. Set out= to another folder."
            ) from None
        if UNFINISHED not in found or found["settings"] != self.content["settings"]:
            what = "others, unfinished" if UNFINISHED in found else "finished ones"
            raise RunError(
                f"{self.folder} holds probes already, {what}, which are not overwritten. Set out= "
                "to another folder."
            )
        self.content["models"] = found["models"]

    @property
    def models(self) -> list[dict[str, Any]]:
        """The record of each model, in order."""
        models: list[dict[str, Any]] = self.content["models"]
        return models

    def has(self, name: str, checkpoint: Path) -> bool:
        """Whether a model is there.

        Raises:
            RunError: another one has its name.
        """
        found = next((one for one in self.models if one["model"] == name), None)
        if found is not None and found["checkpoint"] != str(checkpoint):
            raise RunError(
                f"{self.folder} holds probes of {found['checkpoint']}, called {name} as those of "
                f"{checkpoint} would be. Set out= to another folder."
            )
        return found is not None

    def add(self, model: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], of: int) -> None:
        """Keep what was found in one of ``of`` models."""
        self.models.append(dict(model))
        self._rows += rows
        with replace_file(self.folder / PROBE_TABLE) as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows)
        self._write({UNFINISHED: f"{len(self.models)} of {of} models"})

    def finish(self) -> None:
        """Say that nothing is missing."""
        self._write({})

    def _write(self, more: Mapping[str, Any]) -> None:
        text = json.dumps({**more, **self.content}, indent=1, ensure_ascii=False)
        write_text(self.folder / PROBE, text + "\n")
