"""`python -m hybridbridge_vol`: the command line."""

import sys

from hybridbridge_vol.cli.main import main

sys.exit(main())
