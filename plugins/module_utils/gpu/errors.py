# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a source of facts could not be read."""

from __future__ import annotations

# What NVML answers (nvmlReturn_t in nvml.h), as far as it tells one cause from another. nvidia-smi exits with the
# same numbers (its manual page, "RETURN VALUE").
NVML_KINDS = {
    4: "no_permission",
    9: "driver_not_loaded",
    12: "library_missing",
    15: "gpu_lost",
    18: "version_mismatch",
}


class SourceError(Exception):
    """A source of facts that did not answer.

    Attributes:
        kind (str): ``unavailable`` (the tool itself is not there), ``library_missing``, ``driver_not_loaded``,
            ``version_mismatch``, ``no_permission``, ``gpu_lost``, ``timeout`` or ``unknown``.
        detail (str): the source's own words.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
