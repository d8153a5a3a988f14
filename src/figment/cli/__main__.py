"""``python -m figment.cli``."""

from figment.cli import main

if __name__ == "__main__":
    main()
