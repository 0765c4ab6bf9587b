"""Lightning's checkpoint files: written atomically, with a checksum; reads all versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from icot.runs import checkpoint_file
from icot.runs.checkpoint_header import upgrade


class SealedCheckpointIO(CheckpointIO):
    """Writes and reads files with ``icot.runs.checkpoint_file``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint, or leave the previous file unchanged.

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
        """Read a checkpoint to the CPU without running its code, and convert old versions.

        Raises:
            RunError: it is damaged, or of another format.
        """
        return upgrade(checkpoint_file.load(Path(path)))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file."""
        Path(path).unlink(missing_ok=True)
