"""The command line `hb`: one file for each command."""
