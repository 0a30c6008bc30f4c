"""The archive formats that packages are made of, read as streams: ar, tar, cpio, rpm."""
