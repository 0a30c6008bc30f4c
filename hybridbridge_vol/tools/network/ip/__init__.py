"""The objects that `ip` shows: links, addresses, neighbours, routes and rules, one file each."""
