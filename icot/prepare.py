"""``python -m icot.prepare``."""

from icot.commands.prepare import main

if __name__ == "__main__":
    main()
