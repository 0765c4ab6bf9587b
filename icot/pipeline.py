"""``python -m icot.pipeline``: the trainings of a method one after the other, each a run."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.pipeline`` does the work."""
    run("pipeline")


if __name__ == "__main__":
    main()
