"""`python -m potstill`: the console."""

from potstill.commands.main import main

if __name__ == "__main__":
    main()
