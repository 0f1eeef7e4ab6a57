"""What the log of a stage says: how many tests passed, and where it hurts. Pure."""

from __future__ import annotations

import re

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# pytest's last line: "== 2 failed, 31 passed, 1 skipped in 12.34s (0:00:12) =="
PYTEST = re.compile(r"^=+ ((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s.*=+$", re.MULTILINE)
WORTH_TELLING = ("failed", "passed", "skipped", "error", "errors", "xfailed", "xpassed")

COUNTED = (
    ("checks", re.compile(r"^(?:ruff|mypy|yamllint|antsibull-changelog|shellcheck|ansible-lint)\b(?= )", re.MULTILINE)),
    ("sanity tests", re.compile(r'^Running sanity test "', re.MULTILINE)),
    ("plays", re.compile(r"^PLAY RECAP", re.MULTILINE)),
)
"""What else a stage counts: linters that make called, tests of ansible-test, plays that molecule ran to their end."""

COMPLAINTS = re.compile(r"^(?:(?:FAILED|WARNING|ERROR|FATAL|CRITICAL)\b|fatal: \[|make\S*: \*\*\*|\S+:\d+:(?:\d+:)? )")


def count(log: str) -> str:
    """How many tests passed, failed, were skipped, as the table shows it; "" where the log has nothing to count."""
    log = COLOUR.sub("", log)
    found = PYTEST.findall(log)
    if found:
        return ", ".join(part for part in found[-1].split(", ") if part.split()[1] in WORTH_TELLING)
    for name, pattern in COUNTED:
        if number := len(pattern.findall(log)):
            return f"{number} {name}"
    return ""


def complaints(log: str, most: int = 20) -> list[str]:
    """The lines of a failed stage's log that tell what failed, the last ``most`` of them; else its last few lines."""
    lines = [line.rstrip() for line in COLOUR.sub("", log).splitlines() if line.strip()]
    # the summary of pytest has one line a test, which is all that is wanted
    summary = [line for line in lines if re.match(r"(?:FAILED|ERROR) \S+::", line)]
    found = summary or [line for line in lines if COMPLAINTS.match(line)] or lines[-5:]
    return [line[:200] for line in found[-most:]]
