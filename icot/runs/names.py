"""Short names of files and folders that stand side by side.

name_folders(["A/no_cot/0", "A/no_cot_b/0", "A/icot"])    ["no_cot/0", "no_cot_b/0", "icot"]
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def endings(path: Path) -> list[str]:
    """The ends of an absolute path, shortest first: ``0``, ``no_cot/0``, ``A/no_cot/0``."""
    parts = path.parts[1:]
    return ["/".join(parts[-n:]) for n in range(1, len(parts) + 1)]


def free_name(
    own: Iterable[str], others: Iterable[Iterable[str]], spell: Callable[[str], str] = str
) -> str | None:
    """The first of a thing's names that no other thing may have; None if there is none.

    Args:
        own: the names that it may have.
        others: those that each of the others may have.
        spell: names differ after it.
    """
    taken = {spell(name) for other in others for name in other}
    return next((name for name in own if spell(name) not in taken), None)


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
    paths = [Path(folder).resolve() for folder in folders]
    possible = {path: [spell(name) for name in endings(path)] for path in paths}
    found: list[str] = []
    for path in paths:
        own = (name for name in possible[path] if not is_taken(name))
        others = (names for other, names in possible.items() if other != path)
        whole = "/".join(path.parts[1:])
        first = free_name(own, others) or spell(whole)
        name, number = first, 1
        while name in found or is_taken(name):
            number += 1
            name = spell(f"{first} ({number})")
        found.append(name)
    return found
