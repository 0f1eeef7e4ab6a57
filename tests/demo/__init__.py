"""The demo: the main job from one command, on a machine without a GPU."""
