"""GPUs and settings in, resources, allocations and placement out. Pure."""
