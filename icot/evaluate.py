"""``python -m icot.evaluate``: how good and how fast a run's stages are, and where they fail."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.evaluate`` does the work."""
    run("evaluate")


if __name__ == "__main__":
    main()
