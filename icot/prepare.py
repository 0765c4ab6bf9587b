"""``python -m icot.prepare task=T``: write a task's text files and print its token statistics."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.prepare`` does the work."""
    run("prepare")


if __name__ == "__main__":
    main()
