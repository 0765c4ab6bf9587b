"""``python -m icot.train``: take a model from explicit to implicit chain of thought."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.train`` does the work."""
    run("train")


if __name__ == "__main__":
    main()
