"""What the tables of iptables say: entries as the kernel gives them to getsockopt(2), and rules as text."""
