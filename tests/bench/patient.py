"""The daemon with a provider that waits for minutes: `python -m tests.bench.patient run CONFIG`.

sipgate hangs up after 4 s, and the configuration allows no more; ten thousand requests cannot be brought and counted in
that. Nothing else is changed.
"""

from __future__ import annotations

import sys

from bridge.__main__ import main
from bridge.providers.sipgate import settings

REPLY_SECONDS = 600.0

if __name__ == "__main__":
    settings.LONGEST_REPLY_SECONDS = REPLY_SECONDS
    sys.exit(main())
