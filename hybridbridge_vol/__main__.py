"""`python -m hybridbridge_vol`: the command line."""

from hybridbridge_vol.cli.main import program

program()
