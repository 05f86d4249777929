"""The command line: see `python starter.py --help`."""

from cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
