"""`python3 -m samples`: make a sample image."""

import sys

from samples.cli import main

sys.exit(main())
