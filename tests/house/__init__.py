"""Checks of the repository itself, and what builds its releases."""
