"""Short names of run directories that stand side by side.

name_folders(["A/no_cot/0", "A/no_cot_b/0", "A/icot"])    ["no_cot/0", "no_cot_b/0", "icot"]
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path


def name_folders(
    folders: Sequence[str | Path],
    spell: Callable[[str], str] = str,
    is_taken: Callable[[str], bool] = lambda name: False,
) -> list[str]:
    """A name for each folder, no two of them equal.

    It is the end of the path, with as many parent folders as it takes; a folder that is given
    twice gets a number.

    Args:
        folders: to be named.
        spell: makes a name of ``parent/folder``; names differ after it.
        is_taken: whether no folder may have a name.
    """
    paths = [Path(folder).resolve().parts[1:] for folder in folders]
    lengths = dict.fromkeys(paths, 1)
    while True:
        names = {path: spell("/".join(path[-n:])) for path, n in lengths.items()}
        counts = Counter(names.values())
        too_short = [
            path
            for path, name in names.items()
            if (counts[name] > 1 or is_taken(name)) and lengths[path] < len(path)
        ]
        if not too_short:
            break
        for path in too_short:
            lengths[path] += 1
    found: list[str] = []
    for path in paths:
        name, number = names[path], 1
        while name in found or is_taken(name):
            number += 1
            name = spell(f"{names[path]} ({number})")
        found.append(name)
    return found
