"""Lets `python -m netpress` run the command line."""

from netpress.cli import main

if __name__ == "__main__":
    main()
