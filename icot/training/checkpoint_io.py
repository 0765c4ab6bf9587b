"""How Lightning writes and reads checkpoints: whole files, with a checksum, of any version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from icot.runs import checkpoint_file
from icot.runs.checkpoint_header import upgrade


class SealedCheckpointIO(CheckpointIO):
    """Lightning's way to a file, by ``icot.runs.checkpoint_file``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint whole, or leave what was there.

        Raises:
            RunError: it cannot be written.
        """
        checkpoint_file.save(checkpoint, Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, running no code; one of an old version as a new one.

        Raises:
            RunError: it is damaged, or of another format.
        """
        return upgrade(checkpoint_file.load(Path(path)))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file."""
        Path(path).unlink(missing_ok=True)
