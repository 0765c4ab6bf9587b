"""``python -m icot.demo run_dir=RUN``: a local page that shows what each stage of a run writes."""

from icot.cli import run


def main() -> None:
    """The command; ``icot.commands.demo`` does the work."""
    run("demo")


if __name__ == "__main__":
    main()
