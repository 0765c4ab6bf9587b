"""``python -m icot.probe``: what the hidden states of a run's stages hold of each chain token."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.probe`` does the work."""
    run("probe")


if __name__ == "__main__":
    main()
