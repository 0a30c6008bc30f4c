"""Where the images of a batch are examined: on this machine or on a Dask cluster."""
