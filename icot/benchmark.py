"""``python -m icot.benchmark``: measure icot against a plain loop."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.benchmark`` does the work."""
    run("benchmark")


if __name__ == "__main__":
    main()
