"""``python -m tofro`` is the command ``tofro``."""

from __future__ import annotations

import sys

from tofro.cli import main

if __name__ == "__main__":
    sys.exit(main())
