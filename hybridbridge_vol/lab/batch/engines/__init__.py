"""Where the work of a batch is done: `engine` is the interface, `local` and `dask` implement it."""
