"""Physical memory by its owners: processes, files of the page cache, the kernel, nobody."""
