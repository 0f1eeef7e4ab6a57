"""Settings: one table of options, the config file in NVIDIA's format, named configs, and their reload."""
