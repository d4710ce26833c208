"""``python -m tests.quiet_traders run …``: mt4pump whose simulated traders act a fifth as often.

At 5,000 quotes a second they make some 100 trades a second, where the simulator itself makes 500.
"""

import sys

from mt4pump.cli import main
from mt4pump.simulator import broker

broker.QUOTES_PER_ACTION = (50, 100)

if __name__ == "__main__":
    sys.exit(main())
