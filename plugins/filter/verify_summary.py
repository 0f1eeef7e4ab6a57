# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verified chain as text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_summary
short_description: Show the verified chain for a person to read
version_added: 0.1.0
description:
  - One line for each link, the remedy below each broken one.
  - Made for the role P(kubegpu.nvidia.verify#role).
positional: _input, host
options:
  _input:
    description: The links, as P(kubegpu.nvidia.verify_chain#filter) returns them.
    type: list
    elements: dict
    required: true
  host:
    description: Name of the node.
    type: str
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Show the chain
  ansible.builtin.debug:
    msg: "{{ kubegpu_verify | kubegpu.nvidia.verify_summary(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def verify_summary(links, host):
    """Return one line for each link, with the remedy below a broken one."""
    numbers = ["%d %s" % (sum(link["status"] == status for link in links), status) for status in MARKS]
    lines = ["%s: %s" % (host, ", ".join(numbers))]
    width = max(len(link["name"]) for link in links)
    for link in links:
        detail = " ".join(link["detail"].split())
        lines.append("  %-7s  %-*s  %s" % (MARKS[link["status"]], width, link["name"], detail))
        if link["status"] == "failed" and link["remedy"]:
            lines.append("  %-7s  %-*s  to do: %s" % ("", width, "", link["remedy"]))
    return "\n".join(lines)


class FilterModule(object):
    """The filter verify_summary."""

    def filters(self):
        return {"verify_summary": verify_summary}
