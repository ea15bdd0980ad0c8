"""What `python -m jsnnq.cli` does, for programs that name the room."""

import sys

from jsnnq.cli import main

if __name__ == "__main__":
    sys.exit(main())
