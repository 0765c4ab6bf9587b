"""The errors a user can cause, and how an entry point shows them.

Every one carries its whole message: what is wrong, where, and what to do. An entry point prints
it without a traceback and exits with code 2; any other exception is a defect of the program.
"""


class UserError(ValueError):
    """A mistake that the user can mend; the message says how."""


class ConfigError(UserError):
    """One or more mistakes in the configuration, all of them in one message."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "".join(f"\n  - {mistake}" for mistake in mistakes)
        super().__init__(f"{count} in the configuration:{lines}")


class DataError(UserError):
    """A data file that is missing or not in the format; the message names file and line."""


class ModelError(UserError):
    """A model or tokenizer that cannot be found or does not fit."""


class RunError(UserError):
    """A run directory, checkpoint or stage that does not exist or cannot be read."""


class PausedError(RunError):
    """A command that can do no more for now; the same one, started again, goes on."""


def first_line(error: BaseException) -> str:
    """The first line of a library's message, or the error's kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException) -> str:
    """A library's whole message without its full stop, to stand within a sentence."""
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def first_sentence(error: BaseException) -> str:
    """The first line of a library's message without its full stop, to stand within a sentence."""
    return first_line(error).rstrip(".")
