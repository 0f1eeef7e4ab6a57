# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as one page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from . import sections
from .markup import Html, element, join, raw

_PARTS = (
    ("summary", "Summary", lambda report, anchors: sections.summary(report)),
    ("attention", "Attention", sections.attention),
    ("nodes", "Nodes", sections.nodes),
    ("chain", "Chain", sections.chain),
    ("gpus", "GPUs", sections.gpus),
    ("use", "Use", sections.use),
    ("differences", "Differences", sections.differences),
    ("topology", "Topology", sections.topology),
    ("details", "Node by node", sections.details),
)


def page(report: dict[str, Any], style: str, script: str, title: str) -> Html:
    """The page.

    Args:
        report (dict): as ``fleet.build`` returns it.
        style (str): the style sheet.
        script (str): the script; the page is complete without it.
        title (str): of the page.

    Returns:
        Html: a whole document. The same report gives the same document.

    Raises:
        ValueError: a style or script that would end its own element.
    """
    # Ids are numbers, not names, since anything may be in a name.
    anchors = {node["host"]: "node-%d" % number for number, node in enumerate(report["nodes"], 1)}
    shown = [(name, short, make(report, anchors)) for name, short, make in _PARTS]
    shown = [(name, short, content) for name, short, content in shown if content]
    links = [element("li", None, element("a", {"href": "#" + name}, short)) for name, short, _content in shown]
    header = element(
        "header",
        {"class": "top"},
        element(
            "div",
            {"class": "title"},
            element("h1", None, title),
            element("p", {"class": "muted"}, "State of ", element("time", None, report["generated"])),
        ),
        element(
            "div",
            {"class": "tools", "hidden": True},
            element("label", {"for": "filter"}, "Filter"),
            element(
                "input",
                {
                    "id": "filter",
                    "type": "search",
                    "placeholder": "node, model, pod, broken \u2026",
                    "autocomplete": "off",
                    "spellcheck": "false",
                    "aria-describedby": "matches",
                },
            ),
            element("span", {"id": "matches", "role": "status", "class": "muted"}),
            element("button", {"id": "theme", "type": "button"}, "Dark"),
        ),
    )
    body = element(
        "body",
        None,
        element("a", {"class": "skip", "href": "#main"}, "Skip to the content"),
        header,
        element("nav", {"aria-label": "Sections"}, element("ul", None, links)),
        element("main", {"id": "main"}, [content for _name, _short, content in shown]),
        element(
            "footer",
            {"class": "muted"},
            "Made by kubegpu.nvidia. Reading only: nothing on the nodes or in the cluster was changed.",
        ),
        raw("script", None, script),
    )
    # Even if a value got out of its place, a browser would run and fetch nothing of it.
    policy = "default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'" % (
        _hash(style),
        _hash(script),
    )
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("title", None, title),
        raw("style", None, style),
    )
    return join(Html("<!DOCTYPE html>\n"), element("html", {"lang": "en"}, head, body), Html("\n"))


def _hash(text: str) -> str:
    return "sha256-%s" % base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
