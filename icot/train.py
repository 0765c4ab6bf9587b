"""``python -m icot.train``."""

from icot.commands.train import main

if __name__ == "__main__":
    main()
