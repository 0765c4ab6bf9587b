"""``python -m icot.dashboard``."""

from icot.commands.dashboard import main

if __name__ == "__main__":
    main()
