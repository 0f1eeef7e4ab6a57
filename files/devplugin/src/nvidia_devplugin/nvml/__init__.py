"""The driver: the only package that imports pynvml."""
