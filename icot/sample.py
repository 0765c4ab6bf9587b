"""``python -m icot.sample``: many rationales of a teacher for each question."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.sample`` does the work."""
    run("sample")


if __name__ == "__main__":
    main()
