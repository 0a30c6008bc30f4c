"""A worker: a process that examines one image after the other, each in a child with limits.

`client` is its handle in the batch, `process` the worker itself, `supervised_child` the limits, `orders` what
the client and the worker say to each other.
"""
