"""The node's labels, with the keys and values of GPU feature discovery."""
