"""icot: implicit chain of thought, as a PyTorch Lightning framework.

    import icot

    run = icot.train("task=mult2", "trainer.max_steps=200")      a run directory, as from the shell
    run = icot.load("outputs/RUN")
    run.answer(["2 1 * 3 4"])
    run.evaluate(stage="all")

Importing the package imports nothing else; a name brings what it needs when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from icot.commands.api import Run, evaluate, load, train
    from icot.methods.base import Method
    from icot.schedule import Schedule, Stage
    from icot.tasks.base import Example, Split, Task

__all__ = [
    "Example",
    "Method",
    "Run",
    "Schedule",
    "Split",
    "Stage",
    "Task",
    "evaluate",
    "load",
    "train",
]
HOMES = {
    "Example": "icot.tasks.base",
    "Method": "icot.methods.base",
    "Run": "icot.commands.api",
    "Schedule": "icot.schedule",
    "Split": "icot.tasks.base",
    "Stage": "icot.schedule",
    "Task": "icot.tasks.base",
    "evaluate": "icot.commands.api",
    "load": "icot.commands.api",
    "train": "icot.commands.api",
}


def __getattr__(name: str) -> Any:
    """A public name, imported now."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names too."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package whose functions keep their names when entry points of the same name are imported.

    ``python -m icot.train`` is a module, and ``icot.train(...)`` a function; importing the former
    would else put it in the latter's place.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
