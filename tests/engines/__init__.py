"""Container engines and Kubernetes for the tests, built from their Go modules; see README.md."""

from __future__ import annotations


class EngineError(RuntimeError):
    """An engine that cannot be had here; the text tells why and what to do."""
