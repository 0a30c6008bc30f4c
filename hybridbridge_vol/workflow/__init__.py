"""What commands, the Python interface and the plugins do in several steps: trust a kernel, train its memo,
describe an image or a stored kernel."""
