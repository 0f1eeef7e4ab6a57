"""Reasons of strict expected failures: the title of the piece of work that a fault of the product belongs to."""

from __future__ import annotations

DAEMON = "The daemon: standard libraries, packages that show the architecture, and the faults that real clusters showed"
RUNTIMES = "Container runtimes: what real files and real engines taught"
HEALTH = "Health that tells the truth, to everyone who asks"
ROLES = "Roles that read like a runbook, on any cluster: plain Ansible, plugin-neutral, every architecture"
TOLD = "What operators are told: site, verify, report say what is, leak nothing, and their remedies work"
