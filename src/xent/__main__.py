"""python -m xent: the same as the xent command."""

import sys

from _xent_command import main

if __name__ == "__main__":
    sys.exit(main())
