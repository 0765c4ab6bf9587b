"""``python -m icot.dashboard project=icot``: the W&B workspace for ablations, and a report."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.dashboard`` does the work."""
    run("dashboard")


if __name__ == "__main__":
    main()
