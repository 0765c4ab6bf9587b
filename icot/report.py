"""``python -m icot.report DIR...``: what runs show, as one page, as Markdown and as pictures."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.report`` does the work."""
    run("report")


if __name__ == "__main__":
    main()
