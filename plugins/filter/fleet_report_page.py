# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's report as a page."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report_page
short_description: Show the report of a fleet as one HTML page
version_added: 0.1.0
description:
  - One file without references to others, for every browser, with or without scripts, and for printing.
  - Every value is escaped, and the page's own policy lets a browser run nothing but the script given here.
  - Made for the role P(kubegpu.nvidia.report#role).
positional: _input, style, script
options:
  _input:
    description: The report, as P(kubegpu.nvidia.fleet_report#filter) returns it.
    type: dict
    required: true
  style:
    description: The style sheet.
    type: str
    required: true
  script:
    description: The script.
    type: str
    required: true
  title:
    description: Title of the page.
    type: str
    default: GPU fleet
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Write the page
  ansible.builtin.copy:
    content: "{{ fleet | kubegpu.nvidia.fleet_report_page(lookup('file', 'report.css'), lookup('file', 'report.js')) }}"
    dest: /tmp/report.html
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""


def fleet_report_page(report, style, script, title="GPU fleet"):
    """Return the page."""
    # here, since Ansible loads all of a collection's filters, in every process that needs one of them
    from ansible_collections.kubegpu.nvidia.plugins.module_utils.report.page import page

    return "%s" % page(report, style, script, title)


class FilterModule(object):
    """The filter fleet_report_page."""

    def filters(self):
        return {"fleet_report_page": fleet_report_page}
