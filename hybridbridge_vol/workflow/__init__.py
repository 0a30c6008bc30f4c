"""What the command line, the library and the plugins share: trust a kernel, train, describe."""
