"""``python -m mt4pump``: the same as the command ``mt4pump``."""

import sys

from mt4pump.cli import main

if __name__ == "__main__":
    sys.exit(main())
