"""Reading a run directory; ``icot.runs.checkpoints`` reads its weights."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from icot.config.kept import check_trusted, read_config
from icot.config.schema import TrainConfig
from icot.config.section import Section
from icot.errors import DataError, RunError
from icot.runs.directory import first_part, read_environment, read_summary
from icot.runs.layout import CONFIG, EXPORTED, MODEL, PARTS


class KeptRun:
    """A run directory.

    Args:
        folder: the directory.
        trusted: packages whose code it may name.

    Raises:
        RunError: it is not a run directory.
    """

    def __init__(self, folder: str | Path, trusted: Iterable[str] = ()) -> None:
        self.folder, self.trusted = Path(folder), tuple(trusted)
        if not self.folder.is_dir():
            raise RunError(f"run directory {self.folder}: no such directory.")
        if not (self.folder / CONFIG).is_file():
            raise RunError(
                f"{self.folder} is not a run directory: it has no {CONFIG}. icot.train writes run "
                "directories, by default to outputs/..."
            )

    @classmethod
    def of_checkpoint(cls, path: Path, trusted: Iterable[str] = ()) -> "KeptRun":
        """The run directory that contains a checkpoint.

        Raises:
            RunError: there is none.
        """
        for folder in (path.parent, path.parent.parent):
            if (folder / CONFIG).is_file():
                return cls(folder, trusted)
        raise RunError(
            f"checkpoint {path} is not in a run directory, so its task and model are unknown; set "
            "run_dir= to the run it comes from."
        )

    @property
    def model_folder(self) -> Path:
        """The folder of the tokenizer and the model's configuration."""
        return self.folder / (first_part(self.folder) if self.is_exported else MODEL)

    @property
    def is_exported(self) -> bool:
        """Whether it is a folder of ``icot.export`` rather than of training."""
        return (self.folder / PARTS).is_file()

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json."""
        return read_environment(self.folder)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; empty if the run has not finished."""
        return read_summary(self.folder)

    @cached_property
    def cfg(self) -> TrainConfig:
        """The run's resolved configuration.

        Raises:
            RunError: it is not valid, or it names code of an untrusted package.
        """
        path = self.folder / CONFIG
        cfg = read_config(path)
        check_trusted(cfg, self.trusted, path)
        return cfg


def check_sources(cfg: Section) -> None:
    """Check that the run directories and files that a command will read exist.

    Args:
        cfg: the command's configuration.

    Raises:
        UserError: one does not exist, or cannot be read.
    """
    trusted = getattr(cfg, "trust", ())
    run_dir = getattr(cfg, "run_dir", None)
    run_dirs = run_dir if isinstance(run_dir, list) else [run_dir] if run_dir else []
    folders = [*run_dirs, *getattr(cfg, "baselines", ())]
    for folder in folders:
        if not (Path(folder) / EXPORTED).is_file():
            _ = KeptRun(folder, trusted).cfg
    checkpoint, data_file = getattr(cfg, "checkpoint", None), getattr(cfg, "data_file", None)
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise RunError(f"checkpoint {checkpoint}: no such file.")
    if data_file is not None and not Path(data_file).is_file():
        raise DataError(f"data_file={data_file}: no such file.")
