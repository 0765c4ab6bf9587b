"""The rows of a data set of the hub, or of a folder that ``datasets`` can load."""

from collections.abc import Mapping
from typing import Any

from icot.errors import DataError, first_sentence
from icot.tasks.base import Split

HUB_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("validation", "valid"),
    "test": ("test",),
}


def hub_rows(
    dataset: str,
    subset: str | None,
    revision: str | None,
    split: Split,
    held_out: int,
    names: Mapping[Split, str] | None = None,
) -> tuple[str, int, Any]:
    """The data set's own split that has the rows, the number of the first, and the rows.

    Args:
        dataset: hub name, or a folder.
        subset: the data set's configuration name.
        revision: a commit or tag.
        split: ours. Without a validation split of its own, the last training rows are it.
        held_out: how many of them.
        names: the data set's own names of its splits; none are the usual ones.

    Raises:
        DataError: it cannot be loaded, or has no such split.
    """
    splits = _load(dataset, subset, revision)
    known = {s: (name,) for s, name in names.items()} if names else HUB_SPLITS
    name = next((n for n in known.get(split, ()) if n in splits), None)
    holds_out = not any(n in splits for n in known.get("valid", ()))
    if name is None and split == "valid":
        name = known.get("train", ("",))[0]
    if name is None or name not in splits:
        have = ", ".join(splits)
        raise DataError(f"data set {dataset} has no {split} split; it has {have}.")
    rows = splits[name]
    if split == "test" or not holds_out:
        return name, 0, rows
    part = held_out_part(split, len(rows), held_out, f"data set {dataset}")
    return name, part.start, rows.select(part)


def held_out_part(split: Split, count: int, held_out: int, where: str) -> range:
    """The training or validation rows among ``count`` of which the last are held out.

    Raises:
        DataError: none would be left to train on.
    """
    kept = count - held_out
    if kept < 1:
        raise DataError(
            f"task.held_out={held_out}: {where} has only {count} training rows and no validation "
            "split; hold out fewer."
        )
    return range(kept) if split == "train" else range(kept, count)


def _load(dataset: str, subset: str | None, revision: str | None) -> Any:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError(
            "a hub data set needs the package datasets: pip install 'icot[hub]'."
        ) from None
    try:
        return load_dataset(dataset, subset, revision=revision)
    except Exception as error:  # datasets raises many kinds
        raise DataError(
            f"data set {dataset} cannot be loaded ({first_sentence(error)}). Without a network "
            "set task.data_dir to a folder with the files."
        ) from None
