# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sections of the page, each from the report's dict."""

from __future__ import annotations

from typing import Any, Iterable, Sequence

from .fleet import STATES
from .markup import Html, element, join
from .matrix import kind
from .parts import code, lines, muted, section, share_bar, sign, state, table
from .words import UNKNOWN, count, gibibytes, listed, natural, text, whole

_TILE_TONES = {"ok": "good", "attention": "warn", "broken": "bad", "unreachable": "away"}
_HEALTH_TONES = {"healthy": "good", "degraded": "warn", "unhealthy": "bad", "unknown": "away"}
LEGEND = (
    ("nvlink", "NV#", "# NVLinks"),
    ("pix", "PIX", "at most one PCIe bridge"),
    ("pxb", "PXB", "several PCIe bridges"),
    ("phb", "PHB", "a PCIe host bridge"),
    ("node", "NODE", "host bridges of one NUMA node"),
    ("sys", "SYS", "between NUMA nodes"),
)


def summary(report: dict[str, Any]) -> Html:
    """The fleet in four numbers."""
    numbers = report["summary"]
    versions = _counted(node["driver_version"] for node in report["nodes"])
    states = [(name, numbers["states"][name]) for name in reversed(STATES)]
    health = [(name, numbers["health"][name]) for name in ("healthy", "degraded", "unhealthy", "unknown")]
    tiles = [
        _tile(
            "Nodes",
            numbers["nodes"],
            [(_TILE_TONES[name], number) for name, number in states],
            _told(states),
        ),
        _tile(
            "GPUs",
            numbers["gpus"],
            [(_HEALTH_TONES[name], number) for name, number in health],
            _told(health),
        ),
    ]
    if report["cluster"]["asked"] and not report["cluster"]["problem"]:
        free = max(numbers["allocatable"] - numbers["requested"], 0)
        waits = ", %s waiting" % count(numbers["waiting_pods"], "pod") if numbers["waiting_pods"] else ""
        tiles.append(
            _tile(
                "Devices in use",
                numbers["requested"],
                [("used", min(numbers["requested"], numbers["allocatable"])), ("empty", free)],
                "of %d allocatable%s" % (numbers["allocatable"], waits),
            )
        )
    tiles.append(
        _tile(
            "Driver versions",
            len(versions),
            [],
            ", ".join("%s (%d)" % pair for pair in versions[:3]) + (" \u2026" if len(versions) > 3 else "")
            or "none known",
        )
    )
    models = "; ".join("%d \u00d7 %s" % (model["count"], model["name"]) for model in numbers["models"])
    notices = []
    if report["cluster"]["problem"]:
        problem = report["cluster"]["problem"]
        notices.append("The cluster is left out: %s. To do: %s." % (problem["cause"], problem["remedy"].rstrip(".")))
    elif not report["cluster"]["asked"]:
        notices.append("The cluster was not asked.")
    return section(
        "summary",
        "Summary",
        models,
        [element("p", {"class": "notice"}, notice) for notice in notices],
        element("div", {"class": "tiles"}, tiles),
    )


def _tile(name: str, number: int, parts: Sequence[tuple[str, int]], words: str) -> Html:
    whole_bar = sum(amount for _tone, amount in parts)
    return element(
        "div",
        {"class": "tile"},
        element("h3", None, name),
        element("p", {"class": "figure"}, number),
        share_bar(parts, whole_bar, words) if whole_bar else None,
        element("p", {"class": "muted"}, words),
    )


def _told(pairs: list[tuple[str, int]]) -> str:
    return ", ".join("%d %s" % (number, name) for name, number in pairs if number) or "none"


def _counted(values: Iterable[str]) -> list[tuple[str, int]]:
    numbers: dict[str, int] = {}
    for value in values:
        if value:
            numbers[value] = numbers.get(value, 0) + 1
    return sorted(numbers.items(), key=lambda item: (-item[1], natural(item[0])))


def attention(report: dict[str, Any], anchors: dict[str, str]) -> Html:
    """What needs somebody, each trouble once with all nodes that have it."""
    found: dict[tuple[int, str, str], list[str]] = {}
    for node in report["nodes"]:
        for finding in node["findings"]:
            key = (STATES.index(finding["level"]), finding["what"], finding["remedy"])
            found.setdefault(key, []).append(node["host"])
    if not found:
        return section("attention", "Needs attention", "", element("p", {"class": "calm"}, state("ok", "Nothing.")))
    rows = []
    for key in sorted(found, key=lambda key: (key[0], -len(found[key]), key[1], key[2])):
        level, what, remedy = key
        hosts = found[key]
        rows.append(
            [
                (state(STATES[level]), level),
                lines([what] + ([join(muted("To do: "), remedy)] if remedy else [])),
                (_linked(hosts, anchors), len(hosts)),
            ]
        )
    columns = [("State", ""), ("What, and what to do", "text"), ("Nodes", "hosts")]
    return section(
        "attention",
        "Needs attention",
        "The same trouble on several nodes stands here once.",
        table("What needs attention", columns, rows),
    )


def _linked(hosts: list[str], anchors: dict[str, str], most: int = 8) -> Html:
    shown = hosts if len(hosts) <= most else hosts[: most - 1]
    parts = []
    for host in shown:
        parts += [element("a", {"href": "#" + anchors[host]}, host) if host in anchors else host, ", "]
    if len(shown) < len(hosts):
        rest = hosts[len(shown) :]
        return join(parts, element("span", {"title": ", ".join(rest)}, "%d more" % len(rest)))
    return join(parts[:-1])


def nodes(report: dict[str, Any], anchors: dict[str, str]) -> Html:
    """One row a node."""
    with_cluster = report["cluster"]["asked"] and not report["cluster"]["problem"]
    columns = [
        ("Node", ""),
        ("State", ""),
        ("GPUs", ""),
        ("Driver", ""),
        ("CUDA", ""),
        ("Toolkit", ""),
        ("Runtime", ""),
    ]
    columns += [("Kubelet", ""), ("In use", "number")] if with_cluster else []
    columns += [("Chain", "short")]
    rows = []
    for node in report["nodes"]:
        row = [
            element("a", {"href": "#" + anchors[node["host"]]}, node["host"]),
            (state(node["state"]), STATES.index(node["state"])),
            (_models(node), len(node["gpus"])),
            text(node["driver_version"]),
            text(node["cuda_version"]),
            text(node["toolkit_version"]),
            text(" ".join(part for part in (node["runtime"]["name"], node["runtime"]["version"]) if part)),
        ]
        if with_cluster:
            row += _use_of(node)
        rows.append([*row, _chain_in_short(node)])
    return section("nodes", "Nodes", "", table("Nodes", columns, rows))


def _models(node: dict[str, Any]) -> str:
    words = ["%d \u00d7 %s" % (model["count"], model["name"]) for model in node["models"]]
    if not words and node["gpus_on_pci"]:
        return "%d on the PCI bus" % node["gpus_on_pci"]
    return ", ".join(words) or UNKNOWN


def _use_of(node: dict[str, Any]) -> list[Any]:
    kubernetes = node["kubernetes"]
    if kubernetes is None:
        return [UNKNOWN, (UNKNOWN, -1)]
    parts = ["%d / %d" % (item["requested"], item["allocatable"]) for item in kubernetes["resources"]]
    named = [item["name"].rpartition("/")[2] for item in kubernetes["resources"]]
    if len(parts) > 1:
        parts = ["%s %s" % pair for pair in zip(named, parts)]  # noqa: B905 -- Python 3.10 and later only
    return [
        text(kubernetes["kubelet"]),
        (lines(parts) if parts else "0 / 0", sum(item["requested"] for item in kubernetes["resources"])),
    ]


def _chain_in_short(node: dict[str, Any]) -> tuple[Html, int]:
    failed = [link["name"].replace("_", " ") for link in node["links"] if link["status"] == "failed"]
    passed = sum(link["status"] == "passed" for link in node["links"])
    if not node["links"]:
        return (muted(UNKNOWN), -1)
    if failed:
        return (state("failed", listed(failed, 3)), len(failed))
    return (state("passed", "%d passed" % passed), 0)


def chain(report: dict[str, Any], anchors: dict[str, str]) -> Html | None:
    """The chain's links as columns."""
    names = []
    for node in report["nodes"]:
        names += [link["name"] for link in node["links"] if link["name"] not in names]
    if not names:
        return None
    rows = []
    for node in report["nodes"]:
        links = {link["name"]: link for link in node["links"]}
        row: list[Any] = [element("a", {"href": "#" + anchors[node["host"]]}, node["host"])]
        for name in names:
            link = links.get(name, {"status": "unknown", "detail": "not looked at"})
            order = ("failed", "unknown", "skipped", "passed")
            row.append(
                (
                    sign(link["status"], name, link["detail"]),
                    order.index(link["status"]) if link["status"] in order else 1,
                )
            )
        rows.append(row)
    columns = [("Node", "")] + [(name.replace("_", " "), "mark") for name in names]
    note = "From the driver to a pod. \u2713 passed, \u2715 failed, \u2013 not tried, ? not known; more below."
    return section("chain", "Chain", note, table("The chain of each node", columns, rows, wide=True))


def gpus(report: dict[str, Any], anchors: dict[str, str]) -> Html:
    """One row a GPU."""
    rows = []
    for node in report["nodes"]:
        for gpu in node["gpus"]:
            total, used = gpu["memory_total_bytes"], gpu["memory_used_bytes"]
            memory = join(
                "%s / %s" % (gibibytes(used), gibibytes(total)),
                share_bar([("used", used or 0), ("empty", total - (used or 0))], total, "memory in use")
                if total
                else None,
            )
            rows.append(
                [
                    element("a", {"href": "#" + anchors[node["host"]]}, node["host"]),
                    (text(gpu["index"]), text(gpu["index"])),
                    lines([gpu["name"], muted(code(text(gpu["uuid"])))]),
                    lines([state(gpu["health"]), *[muted(reason["message"]) for reason in gpu["reasons"]]]),
                    (memory, used or 0),
                    (whole(gpu["utilization_percent"], " %"), gpu["utilization_percent"] or 0),
                    (whole(gpu["celsius"], " \u00b0C"), gpu["celsius"] or 0),
                    (whole(gpu["watts"], " W"), gpu["watts"] or 0),
                    (text(gpu["processes"]), gpu["processes"] or 0),
                    _users(gpu),
                ]
            )
    if not rows:
        return section("gpus", "GPUs", "None are known.")
    columns = [
        ("Node", ""),
        ("GPU", "number"),
        ("Model", ""),
        ("Health", "text"),
        ("Memory, GiB", "number memory"),
        ("Busy", "number"),
        ("Heat", "number"),
        ("Power", "number"),
        ("Processes", "number"),
        ("Used by", "users"),
    ]
    return section("gpus", "GPUs", "", table("GPUs", columns, rows))


def _users(gpu: dict[str, Any]) -> Html:
    parts = []
    for user in gpu["used_by"]:
        parts.append(join(muted(user["namespace"] + "/"), user["pod"]))
    parts += [muted("MIG %s" % text(instance["profile"])) for instance in gpu["mig"]]
    return lines(parts) if parts else muted(UNKNOWN)


def use(report: dict[str, Any], anchors: dict[str, str]) -> Html | None:
    """One row for each pod that asks for GPUs."""
    if not report["cluster"]["asked"] or report["cluster"]["problem"]:
        return None
    rows = []
    for pod in report["pods"]:
        where = pod["host"] or pod["node"]
        rows.append(
            [
                lines(
                    [join(muted(pod["namespace"] + "/"), pod["name"])] + ([muted(pod["owner"])] if pod["owner"] else [])
                ),
                lines([pod["phase"]] + ([muted(pod["trouble"])] if pod["trouble"] else [])),
                _linked([where], anchors) if where else muted("waits for a node"),
                (
                    lines(["%d \u00d7 %s" % (number, name) for name, number in pod["resources"].items()]),
                    sum(pod["resources"].values()),
                ),
                ", ".join("%s" % index for index in pod["gpus"]) or muted(UNKNOWN),
                text(pod["since"].replace("T", " ").replace("Z", "") if pod["since"] else ""),
            ]
        )
    if not rows:
        return section("use", "Who uses what", "No pod asks for a GPU.")
    columns = [("Pod", ""), ("Phase", "text"), ("Node", ""), ("Asks for", ""), ("GPUs", ""), ("Since (UTC)", "")]
    note = "GPU numbers are what the node's kubelet remembers."
    return section("use", "Who uses what", note, table("Pods that ask for GPUs", columns, rows))


def differences(report: dict[str, Any], anchors: dict[str, str]) -> Html:
    """Settings in which nodes of one kind differ, with the odd ones named."""
    rows = []
    for item in report["differences"]:
        most = item["values"][0]
        odd = [
            element("div", None, element("strong", None, value["value"]), " ", _linked(value["hosts"], anchors, 12))
            for value in item["values"][1:]
        ]
        same = join(most["value"], " ", muted(count(len(most["hosts"]), "node")))
        rows.append(
            [
                item["setting"],
                same,
                join(odd) if odd else muted("its GPUs differ"),
                "%s (%s)" % (item["group"], count(item["hosts"], "node")),
            ]
        )
    if not rows:
        return section("differences", "Differences", "Nodes with the same GPUs are set up the same.")
    columns = [("Setting", ""), ("Most have", "text"), ("But", "text"), ("Among", "text")]
    note = "Between nodes with the same GPUs, which should be set up the same."
    return section("differences", "Differences", note, table("Differences between nodes", columns, rows))


def topology(report: dict[str, Any], anchors: dict[str, str]) -> Html | None:
    """Each topology once, with the nodes that have it."""
    if not report["topologies"]:
        return None
    figures = []
    for number, item in enumerate(report["topologies"], 1):
        head = [element("th", {"scope": "col"}, "GPU %s" % index) for index in item["indices"]]
        rows = []
        for index, numa, row in zip(item["indices"], item["numa"], item["rows"]):  # noqa: B905 -- see parts
            cells = [
                element(
                    "td", {"class": "self" if cell == "X" else "link-" + kind(cell)}, UNKNOWN if cell is None else cell
                )
                for cell in row
            ]
            rows.append(
                element(
                    "tr",
                    None,
                    element("th", {"scope": "row"}, "GPU %s" % index),
                    cells,
                    element("td", None, text(numa)),
                )
            )
        caption = join(
            element("strong", None, "%d \u00d7 %s" % (len(item["indices"]), item["model"])),
            element("br"),
            _linked(item["hosts"], anchors),
        )
        figures.append(
            element(
                "div",
                {"class": "scroll", "role": "region", "aria-label": "Topology %d" % number, "tabindex": "0"},
                element(
                    "table",
                    {"class": "matrix"},
                    element("caption", None, caption),
                    element(
                        "thead",
                        None,
                        element("tr", None, element("td"), head, element("th", {"scope": "col"}, "NUMA")),
                    ),
                    element("tbody", None, rows),
                ),
            )
        )
    legend = [
        element("div", None, element("dt", {"class": "link-" + name}, short), element("dd", None, words))
        for name, short, words in LEGEND
    ]
    return section(
        "topology",
        "Topology",
        "How each two GPUs of a node reach each other; nodes with the same matrix share one.",
        element("div", {"class": "matrices"}, figures),
        element("dl", {"class": "legend"}, legend),
    )


def details(report: dict[str, Any], anchors: dict[str, str]) -> Html:
    """Each node in full; open where something is wrong."""
    parts = []
    for node in report["nodes"]:
        parts.append(
            element(
                "details",
                {"id": anchors[node["host"]], "open": node["state"] != "ok" and len(report["nodes"]) <= 20},
                element("summary", None, element("h3", None, node["host"]), " ", state(node["state"])),
                _node(node),
            )
        )
    return section("details", "Node by node", "", parts)


def _node(node: dict[str, Any]) -> Any:
    parts = []
    if node["name"] != node["host"]:
        parts.append(element("p", None, muted("In Kubernetes: "), node["name"]))
    if node["findings"]:
        parts.append(
            element(
                "ul",
                {"class": "findings"},
                [
                    element(
                        "li",
                        None,
                        state(finding["level"]),
                        element("span", None, finding["what"]),
                        join(" ", muted("To do: ", finding["remedy"])) if finding["remedy"] else None,
                    )
                    for finding in node["findings"]
                ],
            )
        )
    if node["links"]:
        source = {"verify": "as kubegpu.nvidia.verify found it", "checks": "as far as looking shows it"}
        parts.append(element("h4", None, "Chain ", muted(source.get(node["links_source"], ""))))
        rows = [[link["name"].replace("_", " "), state(link["status"]), link["detail"]] for link in node["links"]]
        parts.append(table("Chain of %s" % node["host"], [("Link", ""), ("State", ""), ("Seen", "text")], rows))
    parts += _of_kubernetes(node)
    facts = [
        (name, value)
        for name, value in (
            ("Facts from", {"nvml": "NVML", "nvidia-smi": "nvidia-smi", "sysfs": "sysfs alone"}.get(node["source"])),
            ("Compared with", node["group"] if node["settings"] else None),
        )
        if value
    ] + [(name, _value(value)) for name, value in node["settings"].items() if _value(value)]
    if facts:
        parts.append(element("h4", None, "Settings"))
        items = [element("div", None, element("dt", None, name), element("dd", None, value)) for name, value in facts]
        parts.append(element("dl", {"class": "settings"}, items))
    return parts or element("p", None, muted("Nothing is known of it."))


def _value(value: Any) -> str:
    return (
        ", ".join("%s" % item for item in value) if isinstance(value, list) else "" if value is None else "%s" % value
    )


def _of_kubernetes(node: dict[str, Any]) -> list[Html]:
    kubernetes = node["kubernetes"]
    parts: list[Html] = []
    if kubernetes is None:
        return parts
    rows = [
        [condition["type"], condition["status"], condition["reason"], condition["message"]]
        for condition in kubernetes["conditions"]
    ]
    if rows:
        columns = [("Condition", ""), ("Status", ""), ("Reason", ""), ("Message", "text")]
        parts += [element("h4", None, "Conditions"), table("Conditions of %s" % node["host"], columns, rows)]
    rows = [
        [text(event["last"]), event["reason"], event["message"], (event["count"], event["count"])]
        for event in kubernetes["events"][:20]
    ]
    if rows:
        columns = [("Last seen", ""), ("Event", ""), ("Message", "text"), ("Times", "number")]
        parts += [element("h4", None, "Events"), table("Events of %s" % node["host"], columns, rows)]
    if kubernetes["annotations"]:
        items = [
            element("div", None, element("dt", None, name), element("dd", None, value))
            for name, value in kubernetes["annotations"].items()
        ]
        parts += [element("h4", None, "Annotations"), element("dl", {"class": "settings"}, items)]
    return parts
