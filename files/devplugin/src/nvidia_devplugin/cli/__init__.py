"""The commands that end by themselves: validate, devices, labels, ack."""
