"""python -m xent: the same as the xent command."""

import sys

from xent.cli import main

if __name__ == "__main__":
    sys.exit(main())
