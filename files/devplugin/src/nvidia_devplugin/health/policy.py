"""Which XIDs say what about a GPU: NVIDIA's table, the environment's lists, and what the config overrides. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..model import FATAL, IGNORE, SEVERITIES, TRANSIENT, Fault

_TABLE = Path(__file__).with_name("xids.tsv")
_NUMBER = re.compile("[0-9]{1,19}")
_EVERYTHING = ("all", "xids")


@dataclass(frozen=True)
class Xid:
    """One row of the table. severity: ignore (the application is at fault), transient or fatal."""

    code: int
    severity: str
    meaning: str
    action: str


def read_table(text: str) -> dict[int, Xid]:
    """The table of XIDs by code. Raises ValueError naming the line."""
    table: dict[int, Xid] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 4 or not fields[0].isdigit() or fields[1] not in SEVERITIES:
            raise ValueError(f"XID table, line {number}: expected code, {'|'.join(SEVERITIES)}, meaning, action")
        code = int(fields[0])
        if code in table:
            raise ValueError(f"XID table, line {number}: XID {code} is listed twice")
        table[code] = Xid(code, fields[1], fields[2], fields[3])
    return table


@dataclass(frozen=True)
class XidList:
    """A list of XIDs as DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS hold it."""

    everything: bool = False
    codes: frozenset[int] = frozenset()
    malformed: tuple[str, ...] = ()

    def __contains__(self, code: object) -> bool:
        return self.everything or code in self.codes


def parse_xid_list(text: str) -> XidList:
    """`all`, `xids` or codes separated by commas, in any case; what is none of these is kept as malformed.

    As in NVIDIA's plugin, one `all` or `xids` anywhere outweighs the rest, and malformed entries are no error.
    """
    entries = [entry for entry in (part.strip().lower() for part in text.split(",")) if entry]
    if any(entry in _EVERYTHING for entry in entries):
        return XidList(everything=True)
    codes = frozenset(int(entry) for entry in entries if _NUMBER.fullmatch(entry))
    malformed = tuple(entry for entry in entries if not _NUMBER.fullmatch(entry))
    return XidList(codes=codes, malformed=malformed)


@dataclass(frozen=True)
class Recovery:
    """How long faults are held, in seconds.

    quiet: after the last event of a transient fault. longest: what the doubling for a GPU that flaps stops at; a GPU
    that was healthy for so long has its earlier faults forgiven.
    """

    quiet: float = 60.0
    longest: float = 3600.0

    def hold(self, strikes: int) -> float:
        """Seconds of quiet that the `strikes`-th fault in a row asks for: doubled each time."""
        return min(self.longest, self.quiet * 2.0 ** min(max(strikes, 1) - 1, 30))


@dataclass(frozen=True)
class Policy:
    """Which faults count, and how. The environment's enabled wins over its disabled, that over the config, and that
    over the table.

    severities: the config's, by XID. ignored: codes of faults found by polling that the config tells to ignore.
    """

    table: Mapping[int, Xid]
    disabled: XidList = XidList()
    enabled: XidList = XidList()
    severities: Mapping[int, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    recovery: Recovery = Recovery()

    @classmethod
    def from_text(
        cls,
        disabled: str = "",
        enabled: str = "",
        severities: Mapping[int, str] | None = None,
        ignored: frozenset[str] = frozenset(),
        recovery: Recovery | None = None,
    ) -> Policy:
        """With the package's own table; the first two arguments are the values of the environment variables."""
        table = read_table(_TABLE.read_text(encoding="utf-8"))
        lists = parse_xid_list(disabled), parse_xid_list(enabled)
        return cls(table, *lists, severities or {}, ignored, recovery or Recovery())

    @property
    def checks_disabled(self) -> bool:
        """Whether the environment turns off all checks: only XIDs that it enables count then, as in NVIDIA's plugin."""
        return self.disabled.everything and not self.enabled.everything

    def severity(self, code: int) -> str:
        """ignore, transient or fatal. An XID that nobody knows is fatal."""
        known = self.table.get(code)
        wanted = self.severities.get(code) or (known.severity if known else FATAL)
        if code in self.enabled:
            # who enables an application's error wants it seen; the GPU itself gets over it
            return TRANSIENT if wanted == IGNORE else wanted
        return IGNORE if code in self.disabled else wanted

    def ignores(self, code: int) -> bool:
        """True if an XID `code` says nothing about the GPU's health."""
        return self.severity(code) == IGNORE

    def fault(self, code: int) -> Fault:
        """How an XID is shown to people."""
        known = self.table.get(code)
        text = f"XID {code}: {known.meaning}; {known.action}" if known else f"XID {code}"
        return Fault(f"xid_{code}", text)
