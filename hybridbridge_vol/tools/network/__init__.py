"""What the network tools share."""
