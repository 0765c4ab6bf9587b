"""``python -m icot.export``."""

from icot.commands.export import main

if __name__ == "__main__":
    main()
