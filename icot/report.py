"""``python -m icot.report``."""

from icot.commands.report import main

if __name__ == "__main__":
    main()
