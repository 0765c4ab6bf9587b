"""``python -m icot.benchmark``."""

from icot.commands.benchmark import main

if __name__ == "__main__":
    main()
