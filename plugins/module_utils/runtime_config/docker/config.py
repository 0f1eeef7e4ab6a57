# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edits of Docker's daemon.json: (old text, wanted runtime) -> (new text, what to remember). Pure.

Keys as in Docker's dockerd reference: runtimes.<name>.path, runtimes.<name>.runtimeArgs, default-runtime,
features.cdi. An empty file counts as {}, as it does for dockerd since 23.0 (20.10 says EOF). A UTF-8 byte order mark
is kept; 20.10 does not read such a file, 23.0 and later do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ..memory import (
    Memory,
    Slot,
    digest,
    keep_slot,
)
from ..text import json_text
from ..text.lines import BOM, ConfigError, error_at

STOCK_RUNTIMES = ("runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux")
"""Runtimes that dockerd knows without configuration (docker info of 20.10; later releases know runc the same)."""

DEFAULT = ("default-runtime",)
CDI = ("features", "cdi")
BRIDGE = "bridge.default-runtime"
"""Slot of a default-runtime that is there for one reload only (see bridge)."""


@dataclass(frozen=True)
class DockerRuntime:
    """The wanted runtime. None for args, set_default or cdi means: leave as it is.

    on_conflict: what to do about a runtime of this name that another tool made otherwise: keep, replace or fail.
    """

    name: str
    path: str
    args: Optional[Tuple[str, ...]] = None
    set_default: Optional[bool] = None
    cdi: Optional[bool] = None
    on_conflict: str = "keep"


@dataclass(frozen=True)
class Edit:
    """text: str or None (no file). memory: what to remember, None for nothing. config: the text as plain data.

    conflict: None, or in what a foreign runtime of this name, which was kept or replaced, differs.
    """

    text: Optional[str]
    memory: Optional[Memory]
    config: Dict[str, Any]
    conflict: Optional[str] = None


def read(text: str | None) -> Edit:
    """Return the Edit that changes nothing in a daemon.json (str or None). Raises ConfigError if it is not valid."""
    return Edit(text, None, _Document(text).config())


def ensure_present(text: str | None, wanted: DockerRuntime, memory: Memory | None = None) -> Edit:
    """Return the Edit that gives a daemon.json (str, or None for no file) the wanted DockerRuntime.

    Raises ConfigError if the text is not valid or holds a value that dockerd would not take either.
    """
    document = _Document(text)
    if memory is not None and memory.wrote(text):
        before = memory.before
        # One that was there before us as it is now is one that we kept.
        entry = ("runtimes", wanted.name)
        ours = _Document(before).value(entry) != document.value(entry)
    else:
        before = ensure_absent(text, wanted.name, memory, wanted.path, wanted.args, "keep").text
        ours = False
    slots = dict(memory.slots) if memory else {}
    created = list(memory.created) if memory else []

    _drop_bridge(document, slots)
    slots, conflict = _set_runtime(document, wanted, slots, created, ours)
    target = _default_target(document, wanted, slots)
    if target is not None and target != document.value(DEFAULT):
        slots = keep_slot(slots, "default-runtime", document.raw(DEFAULT), json.dumps(target))
        document.set(DEFAULT, target)
    elif wanted.set_default is False and target is None and document.value(DEFAULT) == wanted.name:
        document.remove(DEFAULT)
    if wanted.cdi is not None and document.value(CDI) is not wanted.cdi:
        slots = keep_slot(slots, "features.cdi", document.raw(CDI), json.dumps(wanted.cdi))
        document.ensure_object(CDI[:1], created)
        document.set(CDI, wanted.cdi)

    if document.text == text:
        return Edit(text, memory, document.config(), conflict)
    new = Memory(before, digest(document.source), slots, created)
    return Edit(document.text, new, document.config(), conflict)


def ensure_absent(
    text: str | None,
    name: str,
    memory: Memory | None = None,
    path: str | None = None,
    args: tuple[str, ...] | None = None,
    on_conflict: str = "replace",
) -> Edit:
    """Return the Edit that takes the runtime called name out of a daemon.json (str or None).

    With a memory of ours the former default runtime, features.cdi and a runtime of this name that we replaced come
    back; a text that was not edited since comes back byte for byte. Without one, the runtime and a default runtime
    of this name are taken out, which means runc to Docker. With a path, a runtime that neither has that path (and the
    args, unless they are None) nor is remembered as ours is somebody else's: on_conflict is keep, replace (take it
    out) or fail.
    Raises ConfigError if the text is not valid.
    """
    document = _Document(text)
    if memory is not None and memory.wrote(text):
        return Edit(memory.before, None, _Document(memory.before).config())
    slots = dict(memory.slots) if memory else {}
    created = memory.created if memory else []

    _drop_bridge(document, slots)
    conflict = _remove_runtime(document, name, slots.get("runtime"), path, args, on_conflict)
    stays = document.node(("runtimes", name)) is not None
    if document.value(DEFAULT) == name and ("default-runtime" in slots or not stays):
        former = slots["default-runtime"].before if "default-runtime" in slots else None
        document.restore(DEFAULT, former if document.defines(former, name) else None)
    cdi = slots.get("features.cdi")
    if cdi is not None and document.raw(CDI) == cdi.set:
        document.restore(CDI, cdi.before)
    for key in ("runtimes", "features"):
        if key in created and document.is_empty_object((key,)):
            document.remove((key,))
    if memory is not None and memory.before is None and document.config() == {}:
        return Edit(None, None, {})
    return Edit(document.text, None, document.config(), conflict)


def check_default(text: str | None) -> None:
    """Raise ConfigError if the default runtime of a daemon.json (str or None) does not exist: dockerd would not start.

    A name with a dot or a slash is a containerd shim to Docker 23.0 and later, which need not be configured.
    """
    document = _Document(text)
    name = document.value(DEFAULT)
    known = document.value(("runtimes",)) or {}
    if not name or name in STOCK_RUNTIMES or name in known or "." in name or "/" in name:
        return
    message = (
        "default-runtime is %s, and runtimes has no runtime of this name: Docker refuses to reload and to start like "
        "this. Nothing was changed. Correct default-runtime, or add the runtime, and run this again" % json.dumps(name)
    )
    raise error_at(document.source, document.start(DEFAULT), message)


def bridge(edit: Edit) -> Edit:
    """Return the Edit that says the same as edit in words that a reload of dockerd understands.

    A reload takes over the keys that the file has and never goes back to a default for a key that the file no longer
    has (20.10). So default-runtime and runtimes are spelled out for the time of one reload; any later ensure_present
    or ensure_absent with this Edit's memory takes them out again. Returns edit itself if it has both keys.
    """
    document = _Document(edit.text)
    created = list(edit.memory.created) if edit.memory else []
    slots = dict(edit.memory.slots) if edit.memory else {}
    before = edit.memory.before if edit.memory else edit.text
    document.ensure_object(("runtimes",), created)
    if not document.value(DEFAULT):
        slots[BRIDGE] = Slot(json.dumps("runc"), document.raw(DEFAULT))
        document.set(DEFAULT, "runc")
    if document.text == edit.text:
        return edit
    return Edit(
        document.text, Memory(before, digest(document.source), slots, created), document.config(), edit.conflict
    )


def _drop_bridge(document: _Document, slots: dict[str, Slot]) -> None:
    slot = slots.pop(BRIDGE, None)
    if slot is not None and document.raw(DEFAULT) == slot.set:
        document.restore(DEFAULT, slot.before)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _difference(value: dict[str, Any], path: str, args: tuple[str, ...] | None) -> str | None:
    """In what a foreign runtime (value: dict) differs from path and args (None: any), or None if it does not."""
    if value.get("runtimeType") is not None:
        return "it is a containerd shim (runtimeType %s)" % json.dumps(value["runtimeType"])
    if value.get("path") != path:
        return "its path is %s, not %s" % (json.dumps(value.get("path")), json.dumps(path))
    if args is not None and list(args) != (value.get("runtimeArgs") or []):
        return "its runtimeArgs are %s, not %s" % (json.dumps(value.get("runtimeArgs") or []), json.dumps(list(args)))
    return None


def _refuse(document: _Document, name: str, conflict: str) -> ConfigError:
    message = (
        "somebody else has made the runtime %s already, and %s. Nothing was changed. Keep it, have it replaced "
        "(on_conflict), or choose another name" % (json.dumps(name), conflict)
    )
    return error_at(document.source, document.start(("runtimes", name)), message)


def _remove_runtime(
    document: _Document, name: str, slot: Slot | None, path: str | None, args: tuple[str, ...] | None, on_conflict: str
) -> str | None:
    """Take the runtime out or put back the one that we replaced; return the conflict (str) if it stays."""
    entry = ("runtimes", name)
    if document.node(entry) is None:
        return None
    value = document.value(entry)
    if slot is not None and slot.set == _canonical(value):
        document.restore(entry, slot.before)
        return None
    # An entry of the wrong type is of no use to anybody.
    conflict = _difference(value, path, args) if path is not None and isinstance(value, dict) else None
    if conflict is None or on_conflict == "replace":
        document.remove(entry)
        return None
    if on_conflict == "fail":
        raise _refuse(document, name, conflict)
    return conflict


def _set_runtime(
    document: _Document, wanted: DockerRuntime, slots: dict[str, Slot], created: list[str], ours: bool
) -> tuple[dict[str, Slot], str | None]:
    """Add or change the runtime; return (slots, conflict)."""
    document.ensure_object(("runtimes",), created)
    entry = ("runtimes", wanted.name)
    node = document.node(entry)
    value: dict[str, Any] = {"path": wanted.path}
    if wanted.args:
        value["runtimeArgs"] = list(wanted.args)
    if node is None:
        document.set(entry, value)
        return dict(slots, runtime=Slot(_canonical(value), None)), None
    if node.kind != "object":
        message = "runtimes.%s must be an object with the key path, but is %s" % (wanted.name, node.kind_name)
        raise error_at(document.source, node.start, message)
    raw, old = document.raw(entry), document.value(entry)
    slot = slots.get("runtime")
    ours = ours or (slot is not None and slot.set == _canonical(old))
    conflict = None if ours else _difference(old, wanted.path, wanted.args)
    if conflict is not None and wanted.on_conflict == "fail":
        raise _refuse(document, wanted.name, conflict)
    if conflict is not None and wanted.on_conflict == "keep":
        return slots, conflict
    if "runtimeType" in old:
        # Docker takes either runtimeType or path, so no part of the entry can stay.
        document.set(entry, value)
    else:
        _change_runtime(document, wanted)
    new = document.value(entry)
    if new == old:
        return slots, None
    before = raw if conflict is not None else (slot.before if slot is not None and ours else None)
    return dict(slots, runtime=Slot(_canonical(new), before)), conflict


def _change_runtime(document: _Document, wanted: DockerRuntime) -> None:
    entry = ("runtimes", wanted.name)
    if document.value((*entry, "path")) != wanted.path:
        document.set((*entry, "path"), wanted.path)
    if wanted.args is not None and list(wanted.args) != (document.value((*entry, "runtimeArgs")) or []):
        if wanted.args:
            document.set((*entry, "runtimeArgs"), list(wanted.args))
        else:
            document.remove((*entry, "runtimeArgs"))


def _default_target(document: _Document, wanted: DockerRuntime, slots: dict[str, Slot]) -> str | None:
    """The default runtime to write, or None to write none."""
    if wanted.set_default:
        return wanted.name
    if wanted.set_default is False and document.value(DEFAULT) == wanted.name and "default-runtime" in slots:
        former = slots["default-runtime"].before
        name: str | None = json.loads(former) if former and document.defines(former, wanted.name) else None
        return name
    return None


class _Document:
    """A daemon.json that is scanned again after every edit; files are small, and positions stay right."""

    def __init__(self, text: str | None) -> None:
        self.source = text or ""
        self.missing = text is None
        self.root = None if json_text.is_empty(self.source) else json_text.scan(self.source)
        if self.root is not None:
            self._check(self.root)
        self.style = json_text.style_of(self.source, self.root)

    @property
    def text(self) -> str | None:
        """The text, None as long as there is no file."""
        return None if self.missing and self.root is None else self.source

    def _check(self, root: json_text.Node) -> None:
        if root.kind != "object":
            message = "the top level must be an object, but is %s" % root.kind_name
            raise error_at(self.source, root.start, message)
        for key, kind, what in (
            ("runtimes", "object", "an object of runtimes"),
            ("features", "object", "an object of switches"),
            ("default-runtime", "string", "the name of a runtime"),
        ):
            node = self.node((key,))
            if node is not None and node.kind not in (kind, "null"):
                message = "%s must be %s, but is %s" % (key, what, node.kind_name)
                raise error_at(self.source, node.start, message)

    def _change(self, text: str) -> None:
        self.source = text
        self.root = json_text.scan(text)

    def node(self, path: tuple[str, ...]) -> json_text.Node | None:
        return json_text.find(self.root, path) if self.root is not None else None

    def start(self, path: tuple[str, ...]) -> int:
        """The offset of the value at a path, 0 if there is none."""
        node = self.node(path)
        return 0 if node is None else node.start

    def value(self, path: tuple[str, ...]) -> Any:
        node = self.node(path)
        return None if node is None else json_text.to_python(self.source, node)

    def raw(self, path: tuple[str, ...]) -> str | None:
        node = self.node(path)
        return None if node is None else self.source[node.start : node.end]

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {} if self.root is None else json_text.to_python(self.source, self.root)
        return config

    def is_empty_object(self, path: tuple[str, ...]) -> bool:
        node = self.node(path)
        return node is not None and node.kind == "object" and not node.members

    def defines(self, raw: str | None, but_not: str) -> bool:
        """True if the runtime whose name is the JSON string raw can be the default."""
        if raw is None:
            return False
        try:
            name = json.loads(raw)
        except ValueError:
            return False
        known = self.value(("runtimes",)) or {}
        return isinstance(name, str) and name != but_not and (name in STOCK_RUNTIMES or name in known)

    def ensure_object(self, path: tuple[str, ...], created: list[str]) -> None:
        node = self.node(path)
        if node is not None and node.kind == "object":
            return
        # Docker takes null for an empty object.
        if path[-1] not in created:
            created.append(path[-1])
        self.set(path, {})

    def set(self, path: tuple[str, ...], value: Any) -> None:
        if self.root is None:
            # An empty file, or one of white space: what stands there may only follow the object.
            lead = BOM if self.source.startswith(BOM) else ""
            self._change(lead + "{}" + self.style.newline)
        node = self.node(path)
        if node is not None:
            self._change(json_text.set_value(self.source, node, value, self.style))
            return
        parent = self.node(path[:-1])
        if parent is None or parent.kind != "object":
            raise ConfigError("%s is not an object" % ".".join(path[:-1]))
        self._change(json_text.add_member(self.source, parent, path[-1], value, self.style))

    def restore(self, path: tuple[str, ...], raw: str | None) -> None:
        """Put back raw JSON text, or remove the member for None."""
        if raw is None:
            self.remove(path)
            return
        node = self.node(path)
        if node is None:
            self.set(path, json.loads(raw))
        else:
            self._change(self.source[: node.start] + raw + self.source[node.end :])

    def remove(self, path: tuple[str, ...]) -> None:
        parent = self.node(path[:-1])
        if parent is not None and parent.kind == "object" and parent.get(path[-1]) is not None:
            self._change(json_text.remove_member(self.source, parent, path[-1]))


__all__ = ["ConfigError", "DockerRuntime", "Edit", "bridge", "check_default", "ensure_absent", "ensure_present", "read"]
