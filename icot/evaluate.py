"""``python -m icot.evaluate``."""

from icot.commands.evaluate import main

if __name__ == "__main__":
    main()
