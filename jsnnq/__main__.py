"""The command line as a module: `python -m jsnnq`, where no script is on the path."""

import sys

from jsnnq.cli import main

if __name__ == "__main__":
    sys.exit(main())
