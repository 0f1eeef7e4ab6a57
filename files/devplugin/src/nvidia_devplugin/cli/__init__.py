"""The commands that end by themselves, one module each: validate, devices, labels, ack.

Each has run(arguments, parser), which returns the process' exit status: 0, or 1 after a failure or if something is
wrong with the machine. It raises ConfigError for wrong settings. parser: that of the daemon's flags.
"""
