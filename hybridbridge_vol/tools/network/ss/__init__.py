"""The sockets of each family, as `ss` shows them."""
