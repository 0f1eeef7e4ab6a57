# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edits of containerd's config.toml: (old text, wanted runtime) -> (new text, what to remember). Pure.

Keys as in containerd's docs/cri/config.md. Two traps, both seen on 1.6.20:
- A file that defines any runtime loses the built-in runtime runc, and CRI then does not start as long as
  default_runtime_name is runc. So where a file has no runtimes yet, runc is written down as well.
- 1.x takes a file with `version = 3` without a word and then ignores its CRI settings.
"""

from __future__ import annotations

import fnmatch
import os.path
import re
from dataclasses import dataclass
from typing import Any, Callable, Optional, Tuple

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.memory import (
    Memory,
    Slot,
    digest,
    keep_slot,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import (
    BOM,
    ConfigError,
    error_at,
    position,
    replace,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.toml_editor import TomlEditor

PREFIXES = {
    2: ("plugins", "io.containerd.grpc.v1.cri", "containerd"),
    3: ("plugins", "io.containerd.cri.v1.runtime", "containerd"),
}
"""Config version -> path of the table that holds default_runtime_name and runtimes."""

RUNTIME_TYPE = "io.containerd.runc.v2"
CRI_PLUGINS = ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
_DEFAULT = "default_runtime_name"


@dataclass(frozen=True)
class ContainerdRuntime:
    """The wanted runtime. set_default None means: leave default_runtime_name as it is."""

    name: str
    path: str
    set_default: Optional[bool] = None


@dataclass(frozen=True)
class Edit:
    """text: str or None (no file). memory: what to remember or None. version: config version, None for no file."""

    text: Optional[str]
    memory: Optional[Memory]
    version: Optional[int]


@dataclass(frozen=True)
class Effective:
    """The CRI part of what `containerd config dump` printed."""

    document: toml_text.Document
    prefix: Tuple[str, ...]

    def runtime(self, name: str) -> toml_text.Table | toml_text.Entry | list[toml_text.Table] | None:
        """Return the runtime's toml_text.Table or None."""
        return self.document.find((*self.prefix, "runtimes", name))

    @property
    def default_runtime_name(self) -> str | None:
        """Return default_runtime_name as str or None."""
        entry = self.document.find((*self.prefix, _DEFAULT))
        return toml_text.to_python(entry) if entry is not None else None


def effective_of(document: toml_text.Document) -> Effective | None:
    """Return the Effective of a scanned `config dump`, or None if CRI is disabled or not built in."""
    for version in sorted(PREFIXES, reverse=True):
        if isinstance(document.find(PREFIXES[version]), toml_text.Table):
            return Effective(document, PREFIXES[version])
    return None


def version_of(document: toml_text.Document, engine: int | None = None) -> int:
    """Return the config version (2 or 3) of a scanned file; an empty one gets what suits containerd's major
    version engine (int or None). Raises ConfigError for a version that cannot be edited."""
    entry = document.find(("version",))
    if entry is None:
        if not document.root.entries:
            return 3 if engine is not None and engine >= 2 else 2
        raise _no_version(document)
    version = toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else None
    where = entry.value.start if isinstance(entry, toml_text.Entry) else 0
    if version == 3 and engine == 1:
        message = (
            "version = 3 is for containerd 2.x, and this containerd 1.x silently ignores the CRI settings of such a "
            "file; rewrite it for version = 2"
        )
        raise error_at(document.text, where, message)
    if version not in PREFIXES or isinstance(version, bool):
        message = (
            "config version %s cannot be edited, only 2 and 3; convert the file with `containerd config migrate` "
            "(containerd 1.7 or later), or start from `containerd config default`" % (version,)
        )
        raise error_at(document.text, where, message)
    return int(version)


def _drop_in_version(document: toml_text.Document, main: int) -> int:
    """The version of a drop-in: that of the file that imports it. With two versions containerd 2.1 takes the settings
    of only one of them and says so in a warning at most (tried on 2.1.9, both ways around)."""
    if not document.root.entries:
        return main
    version = version_of(document)
    if version != main:
        message = "version = %d, but the file that imports this one has version = %d, and containerd then drops the "
        message += "settings of one of them; write both for the same version"
        raise error_at(document.text, _value(document, "version").start, message % (version, main))
    return version


def _value(document: toml_text.Document, key: str) -> toml_text.Value:
    """The value of a key at the top of a document; a key that is there only as a table has none."""
    entry = document.find((key,))
    if not isinstance(entry, toml_text.Entry):
        raise ConfigError("%s is not a plain value" % key)
    return entry.value


def _no_version(document: toml_text.Document) -> ConfigError:
    first = min(_start(item) for item in document.root.entries.values())
    message = (
        "the file has settings but no `version`, so containerd 1.x reads it as version 1, which cannot be edited "
        "safely; convert it with `containerd config migrate` (containerd 1.7 or later), or move it away to start "
        "from an empty file"
    )
    line = disabled_cri(document)
    if line is not None:
        message += (
            ". Note: its disabled_plugins (line %d) switches CRI off, so kubelet cannot use this containerd "
            "(Docker's containerd.io package ships it like this)" % line
        )
    return error_at(document.text, first, message)


def _start(item: toml_text.Table | toml_text.Entry | list[toml_text.Table]) -> int:
    return item[0].start if isinstance(item, list) else item.start


def disabled_cri(document: toml_text.Document) -> int | None:
    """Return the line of disabled_plugins if it disables CRI, else None."""
    entry = document.find(("disabled_plugins",))
    if not isinstance(entry, toml_text.Entry):
        return None
    listed = toml_text.to_python(entry)
    if isinstance(listed, list) and any(item in CRI_PLUGINS for item in listed):
        return position(document.text, entry.start)[0]
    return None


def ensure_present(
    text: str | None,
    wanted: ContainerdRuntime,
    memory: Memory | None = None,
    effective: Effective | None = None,
    engine: int | None = None,
    drop_in_of: int | None = None,
) -> Edit:
    """Return the Edit that gives a config.toml (str, or None for no file) the wanted ContainerdRuntime.

    effective: Effective of the text as it is now, or None if unknown: options that the default runtime has from
    elsewhere than the file are copied from there. engine: containerd's major version (int) or None.
    drop_in_of: for a drop-in that is merged into another file, that file's config version (int): the drop-in gets the
    same, and no runc, which the other file or containerd brings along.
    Raises ConfigError if the text is not valid or cannot be edited safely.
    """
    if memory is not None and memory.wrote(text):
        before = memory.before
    else:
        before = ensure_absent(text, wanted.name, memory).text
    editor = _Editor(text or "")
    version = _drop_in_version(editor.document, drop_in_of) if drop_in_of else version_of(editor.document, engine)
    editor.prefix = PREFIXES[version]
    slots = dict(memory.slots) if memory else {}
    editor.created = list(memory.created) if memory else []

    template = _template(editor, wanted.name, effective, slots)
    if not editor.document.root.entries:
        editor.append_block(["version = %d" % version])
    if wanted.set_default and editor.default() != wanted.name:
        raw = toml_text.string_text(wanted.name)
        slots = keep_slot(slots, _DEFAULT, editor.raw((*editor.prefix, _DEFAULT)), raw)
        editor.set_key(editor.prefix, _DEFAULT, raw)
    elif wanted.set_default is False and editor.default() == wanted.name:
        _restore_default(editor, wanted.name, slots)
    if not drop_in_of and editor.document.find((*editor.prefix, "runtimes")) is None:
        runc = _template(editor, wanted.name, effective, {}, only="runc")
        note = "# Written down because containerd drops its built-in runc once the file names any runtime."
        editor.append_runtime("runc", runc.fields, runc.options, note)
    _set_runtime(editor, wanted, template)

    if editor.text == text:
        return Edit(text, memory, version)
    return Edit(editor.text, Memory(before, digest(editor.text), slots, editor.created), version)


def ensure_absent(text: str | None, name: str, memory: Memory | None = None) -> Edit:
    """Return the Edit that takes the runtime called name out of a config.toml (str or None).

    With a memory of ours a text that nobody touched since comes back byte for byte; otherwise what we added is taken
    out, the former default_runtime_name comes back, and everything else stays.
    """
    if text is None:
        return Edit(None, None, None)
    editor = _Editor(text)
    if memory is not None and memory.wrote(text):
        return Edit(memory.before, None, _version_or_none(memory.before))
    version = _version_or_none(text)
    if version is None:
        old = editor.document.find(("plugins", "cri", "containerd", "runtimes", name))
        if old is not None:
            raise _no_version(editor.document)
        return Edit(text, None, None)
    editor.prefix = PREFIXES[version]
    created = list(memory.created) if memory else []
    for block in reversed(created):
        if editor.text.count(block) == 1 and not block.strip().startswith("version"):
            editor.change(editor.text.replace(block, ""))
    editor.remove_runtime(name)
    if editor.default() == name:
        _restore_default(editor, name, memory.slots if memory else {})
    for block in created:
        editor.remove_empty_table(block.strip().splitlines()[0])
        # Whatever else is in the file by now needs its version.
        if block.strip().startswith("version") and list(editor.document.root.entries) == ["version"]:
            editor.change(editor.text.replace(block, "", 1))
    if memory is not None and memory.before is None and not editor.text.strip(BOM + " \t\r\n"):
        return Edit(None, None, None)
    return Edit(editor.text, None, version)


def version_in(document: toml_text.Document) -> int | None:
    """Return the config version of a scanned file, None if it has none that can be edited."""
    try:
        return version_of(document)
    except ConfigError:
        return None


def _version_or_none(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return version_of(toml_text.scan(text))
    except ConfigError:
        return None


def _restore_default(editor: _Editor, name: str, slots: dict[str, Slot]) -> None:
    former = slots[_DEFAULT].before if _DEFAULT in slots else None
    if former is not None:
        known = editor.document.find((*editor.prefix, "runtimes"))
        value = toml_text.value_of(former)
        names = known.entries if isinstance(known, toml_text.Table) else {}
        # A default that is gone since would keep CRI from starting.
        if value != name and (value == "runc" or value in names):
            editor.set_key(editor.prefix, _DEFAULT, former)
            return
    editor.remove_key((*editor.prefix, _DEFAULT))


@dataclass(frozen=True)
class _Template:
    """Key -> raw TOML text to write for a runtime and for its options; systemd_cgroup: raw text or None."""

    fields: dict[str, str]
    options: dict[str, str]

    @property
    def systemd_cgroup(self) -> str | None:
        return self.options.get("SystemdCgroup")


def _template(
    editor: _Editor, name: str, effective: Effective | None, slots: dict[str, Slot], only: str | None = None
) -> _Template:
    """What the default runtime (if it is of runc's kind, else runc) has set, except for its binary."""
    default = editor.default() or (effective.default_runtime_name if effective else None) or "runc"
    if default == name:
        former = slots[_DEFAULT].before if _DEFAULT in slots else None
        default = toml_text.value_of(former) if former else "runc"
    for candidate in (only,) if only else (default, "runc"):
        sources = []
        if effective is not None:
            sources.append((effective.document, effective.runtime(candidate)))
        sources.append((editor.document, editor.document.find((*editor.prefix, "runtimes", candidate))))
        fields, options, kind = {}, {}, None
        for document, item in sources:
            table = _as_table(item)
            if table is None:
                continue
            kind = _string(table, "runtime_type") or kind
            fields.update(_worth_copying(document, table, ("runtime_type", "options")))
            below = _as_table(table.entries.get("options"))
            if below is not None:
                options.update(_worth_copying(document, below, () if only else ("BinaryName",)))
        if candidate != name and (kind or (RUNTIME_TYPE if candidate == "runc" else "")).startswith(
            "io.containerd.runc."
        ):
            fields = dict({"runtime_type": toml_text.string_text(kind if only and kind else RUNTIME_TYPE)}, **fields)
            return _Template(fields, options)
    return _Template({"runtime_type": toml_text.string_text(RUNTIME_TYPE)}, {})


def _as_table(item: object) -> toml_text.Table | None:
    if isinstance(item, toml_text.Entry):
        item = item.value.table
    return item if isinstance(item, toml_text.Table) else None


def _string(table: toml_text.Table, key: str) -> str | None:
    entry = table.entries.get(key)
    value = toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else None
    return value if isinstance(value, str) else None


def _worth_copying(document: toml_text.Document, table: toml_text.Table, but_not: tuple[str, ...]) -> dict[str, str]:
    """Key -> raw text of what is not at Go's zero value anyway; SystemdCgroup always, for the reader."""
    found = {}
    for key, entry in table.entries.items():
        if key in but_not or not isinstance(entry, toml_text.Entry):
            continue
        if key == "SystemdCgroup" or not is_zero(toml_text.to_python(entry)):
            found[key] = document.raw(entry.value)
    return found


def is_zero(value: object) -> bool:
    """True for what containerd takes for not set: empty text, list or table, 0, false."""
    return value in ("", 0, False, None) or value == [] or value == {}


def _set_runtime(editor: _Editor, wanted: ContainerdRuntime, template: _Template) -> None:
    path = (*editor.prefix, "runtimes", wanted.name)
    binary = toml_text.string_text(wanted.path)
    if editor.document.find(path) is None:
        options = dict({"BinaryName": binary}, **template.options)
        editor.append_runtime(wanted.name, template.fields, options)
        return
    editor.set_key(path, "runtime_type", toml_text.string_text(RUNTIME_TYPE))
    editor.set_key((*path, "options"), "BinaryName", binary)
    if template.systemd_cgroup is not None:
        editor.set_key((*path, "options"), "SystemdCgroup", template.systemd_cgroup)


class _Editor(TomlEditor):
    """A config.toml; prefix is the path of the table that holds default_runtime_name and runtimes."""

    inner_indent = "  "

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.prefix: Tuple[str, ...] = ()

    def default(self) -> str | None:
        name: str | None = self.value((*self.prefix, _DEFAULT))
        return name

    def header(self, path: tuple[str, ...]) -> str:
        """The [header] line for a path, its beginning spelled as the file spells it already."""
        for length in range(len(path) - 1, 1, -1):
            for known in self.document.headers:
                if known.path[:length] == path[:length] and known.table.kind == "header":
                    raw = self.text[known.start : known.end].strip("[] \t")
                    spelled = _key_parts(raw)
                    return "[%s]" % ".".join([*spelled[:length], *map(toml_text.key_text, path[length:])])
        parts = [
            "'%s'" % part if "." in part and path[1] == PREFIXES[3][1] else toml_text.key_text(part) for part in path
        ]
        return "[%s]" % ".".join(parts)

    def _last_below(self, path: tuple[str, ...]) -> toml_text.Header | None:
        below = [header for header in self.document.headers if header.path[: len(path)] == path]
        return below[-1] if below else None

    def header_indent(self) -> str:
        last = self._last_below((*self.prefix, "runtimes")) or self._last_below(self.prefix)
        return self.indent(last.start) if last else ""

    def append_runtime(
        self, name: str, fields: dict[str, str], options: dict[str, str], note: str | None = None
    ) -> None:
        """Add the tables of a new runtime behind the last runtime."""
        path = (*self.prefix, "runtimes", name)
        self.check_way(path)
        self.check_way((*self.prefix, "runtimes", ""))
        sibling = [h for h in self.document.headers if h.path[:-1] == path[:-1]]
        indent = self.indent(sibling[-1].start) if sibling else self.header_indent()
        inner = (
            indent
            if sibling and sibling[-1].table.own and self.indent(sibling[-1].table.own[-1].start) == indent
            else indent + "  "
        )
        block = [note] if note else []
        block.append(self.header(path))
        block += [inner[len(indent) :] + "%s = %s" % (toml_text.key_text(key), raw) for key, raw in fields.items()]
        if options:
            block += [inner[len(indent) :] + self.header((*path, "options"))]
            block += [
                2 * inner[len(indent) :] + "%s = %s" % (toml_text.key_text(key), raw) for key, raw in options.items()
            ]
        self.append_block(block, indent)

    def append_block(self, lines: list[str], indent: str = "") -> None:
        """Add lines behind the last table of the runtimes, else of CRI's containerd part, else of the file."""
        last = self._last_below((*self.prefix, "runtimes")) or self._last_below(self.prefix)
        if last is None or last.table.kind != "header":
            at = len(self.text.rstrip(" \t\r\n"))
        else:
            at = max([last.end, last.table.end])
        end = self.line_end(at)
        # A comment right below belongs to what stands above it.
        while True:
            following = re.compile("\r?\n[ \t]*#[^\n]*").match(self.text, end)
            if not following:
                break
            end = self.line_end(following.start() + following.group().index("#"))
        self.add_block(end, lines, indent)

    def remove_key(self, path: tuple[str, ...]) -> None:
        found = self.document.find(path)
        if not isinstance(found, toml_text.Entry):
            return
        for length in range(1, len(path)):
            there = self.document.find(path[:length])
            if isinstance(there, toml_text.Entry):
                raise self.unsafe(there, path[:length], "is an inline table, from which nothing can be taken safely")
        self.remove_lines(found.start, found.value.end)

    def remove_runtime(self, name: str) -> None:
        path = (*self.prefix, "runtimes", name)
        while True:
            found = self.document.find(path)
            if found is None:
                return
            if self.remove_table(path):
                continue
            entries = _entries(found)
            if not entries:
                return
            if not self.stands_alone(entries[-1]):
                problem = "is inside an inline table, from which nothing can be taken safely"
                raise self.unsafe(entries[-1], path, problem)
            self.remove_lines(entries[-1].start, entries[-1].value.end)


def _entries(item: toml_text.Table | toml_text.Entry | list[toml_text.Table]) -> list[toml_text.Entry]:
    """The statements that make up an Entry or a dotted Table, in the order of the file."""
    if isinstance(item, toml_text.Entry):
        return [item]
    if isinstance(item, list):
        return []
    found = [entry for below in item.entries.values() for entry in _entries(below)]
    return sorted(found, key=lambda entry: entry.start)


def _key_parts(raw: str) -> list[str]:
    """Split a dotted key into its parts as they are spelled."""
    return re.findall(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_-]+", raw)


def imports_of(document: toml_text.Document, config_path: str) -> list[str]:
    """Return the patterns (list of str, absolute) that a scanned file imports; relative ones count from its folder."""
    entry = document.find(("imports",))
    listed = toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        return []
    return [os.path.normpath(os.path.join(os.path.dirname(config_path), item)) for item in listed]


def takes_drop_in(text: str | None, config_path: str, drop_in: str, engine: int | None) -> int | None:
    """Return the config version (int) that a drop-in at the path drop_in needs, or None if it would not be read or
    would do harm.

    containerd 2.x merges an imported file setting by setting; 1.x replaces each plugin's whole section by that of the
    imported file, so that a drop-in would lose the main file's settings of CRI.
    """
    if text is None or engine is None or engine < 2:
        return None
    document = toml_text.scan(text)
    if not any(fnmatch.fnmatch(drop_in, pattern) for pattern in imports_of(document, config_path)):
        return None
    return version_of(document, engine)


def has_runtime(text: str | None, name: str) -> bool:
    """True if a config.toml (str or None) itself names the runtime. Raises ConfigError if it is not TOML."""
    document = toml_text.scan(text or "")
    return any(document.find((*prefix, "runtimes", name)) is not None for prefix in PREFIXES.values())


def candidate_text(
    text: str, config_path: str, matches: Callable[[str], list[str]], stand_ins: dict[str, str | None] | None = None
) -> str:
    """Return the text for a trial `config dump` from another place, with the imports that the real place has.

    A pattern may match the file itself, whose old content would then be merged over the new one. matches: function
    (pattern) -> list of paths. stand_ins: imported path -> path of the file to take instead, None for no file.
    """
    document = toml_text.scan(text)
    patterns = imports_of(document, config_path)
    if not patterns:
        return text
    stand_ins = dict(stand_ins or {})
    imports: list[str] = []
    for pattern in patterns:
        found = {pattern}
        ours = {path for path in (config_path, *stand_ins) if fnmatch.fnmatch(path, pattern)}
        if "*" in pattern and ours:
            found = set(matches(pattern)) | ours
        taken = [stand_ins.get(path, path) for path in sorted(found) if path != config_path]
        imports.extend(path for path in taken if path is not None)
    value = _value(document, "imports")
    raw = "[%s]" % ", ".join(map(toml_text.string_text, imports))
    return replace(text, value.start, value.end, raw)


def problems(after: Effective | None, wanted: ContainerdRuntime, expected_default: str | None) -> list[str]:
    """Return what is wrong with an Effective (or None) for the wanted runtime, as a list of str.

    expected_default: str or None for not of interest. A runtime that must not be the default and is counts as wrong.
    """
    if after is None:
        return []
    runtime = after.runtime(wanted.name)
    if runtime is None:
        return ["the runtime %s is not there" % wanted.name]
    plain = toml_text.to_python(runtime)
    found = []
    options = plain.get("options") or {}
    for key, value, expected in (
        ("runtime_type", plain.get("runtime_type"), RUNTIME_TYPE),
        ("options.BinaryName", options.get("BinaryName"), wanted.path),
    ):
        if value != expected:
            found.append("%s of the runtime %s is %r instead of %r" % (key, wanted.name, value, expected))
    if expected_default is not None and after.default_runtime_name != expected_default:
        found.append("default_runtime_name is %r instead of %r" % (after.default_runtime_name, expected_default))
    if wanted.set_default is False and after.default_runtime_name == wanted.name:
        found.append("default_runtime_name is still %r" % wanted.name)
    return found


def side_effects(before: toml_text.Document, after: toml_text.Document, name: str) -> list[str]:
    """Return what else than our keys differs between two scanned dumps, as a sorted list of str.

    A key at its zero value counts as not there: containerd prints the built-in runtime with all keys, and one from
    the file with those that are set."""
    old, new = _flat(before, name), _flat(after, name)
    return [
        "%s: %r -> %r" % (toml_text.path_text(path), old.get(path), new.get(path))
        for path in sorted(set(old) | set(new), key=str)
        if old.get(path) != new.get(path)
    ]


def _flat(document: toml_text.Document, name: str) -> dict[tuple[str, ...], Any]:
    ours: list[tuple[str, ...]] = [(*prefix, "runtimes", name) for prefix in PREFIXES.values()]
    ours += [(*prefix, _DEFAULT) for prefix in PREFIXES.values()]
    found = {}

    def walk(value: object, path: tuple[str, ...]) -> None:
        if path in ours or path in (("imports",), ("version",)):
            return
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        elif not is_zero(value):
            found[path] = value

    walk(toml_text.to_python(document.root), ())
    return found
