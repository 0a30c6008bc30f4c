"""The command line `hb`: one module for each command, with the command's parser beside its work.

`main` has the table of commands and loads the module of the one that was asked for. The modules import what
parses and defer what works: the engine (Unicorn, image formats, the store), `json`, `pathlib` and the other
tools are imported inside the functions that need them. Loading everything takes about 0.3 s, which `hb
--help`, a usage error, shell completion and each `hb run` would pay. tests/cli/test_start.py holds this.
"""
