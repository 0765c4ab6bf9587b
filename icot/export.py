"""``python -m icot.export``: a run's model as a folder that plain transformers loads."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.export`` does the work."""
    run("export")


if __name__ == "__main__":
    main()
