# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edits of containerd's config.toml: (old text, wanted runtime) -> (new text, what to remember). Pure.

Keys as in containerd's docs/cri/config.md. Two traps of 1.x, both seen on 1.6.20:
- A file that defines any runtime loses the built-in runtime runc, and CRI then does not start as long as
  default_runtime_name is runc. So where a file has no runtimes yet, runc is written down as well.
- It takes a file with `version = 3` without a word and then ignores its CRI settings.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from ..memory import (
    Memory,
    Slot,
    digest,
    keep_slot,
)
from ..text import toml_text
from ..text.lines import (
    BOM,
    ConfigError,
    error_at,
    position,
)
from . import keys
from .editor import DEFAULT, Editor
from .effective import (
    RUNTIME_TYPE,
    ContainerdRuntime,
    Effective,
    is_zero,
)
from .keys import PREFIXES

CRI_PLUGINS = ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images")
OPERATOR = "/usr/local/nvidia/toolkit/"
"""Where the NVIDIA GPU operator installs its toolkit."""

_TYPE = ("runtime_type",)
_BINARY = ("options", "BinaryName")
_CGROUP = ("options", "SystemdCgroup")
_DISABLED = "disabled_plugins"
_NOTE = "# Written down because containerd drops its built-in runc once the file names any runtime."


@dataclass(frozen=True)
class Edit:
    """text: str or None (no file). memory: what to remember or None. version: config version, None for no file.

    conflict: None, or in what a foreign runtime of this name, which was kept or replaced, differs. runc: whether
    runc was written down, so that it may differ from what containerd made of the old text."""

    text: Optional[str]
    memory: Optional[Memory]
    version: Optional[int]
    conflict: Optional[str] = None
    runc: bool = False


def version_of(document: toml_text.Document, engine: int | None = None) -> int:
    """Return the config version (2 to 4) of a scanned file; an empty one gets what suits containerd's major
    version engine (int or None). Raises ConfigError for a version that cannot be edited."""
    entry = document.find(("version",))
    if entry is None:
        if not document.root.entries:
            return 3 if engine is not None and engine >= 2 else 2
        raise _no_version(document)
    version = toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else None
    where = entry.value.start if isinstance(entry, toml_text.Entry) else 0
    if isinstance(version, bool) or not isinstance(version, int):
        raise error_at(document.text, where, _NO_NUMBER % (version,))
    if version in PREFIXES and version > 2 and engine == 1:
        raise error_at(document.text, where, _TOO_NEW_FOR_1 % version)
    if version not in PREFIXES:
        raise error_at(document.text, where, (_OLD if version < 2 else _UNKNOWN) % version)
    return version


def version_in(document: toml_text.Document) -> int | None:
    """Return the config version of a scanned file, None if it has none that can be edited."""
    try:
        return version_of(document)
    except ConfigError:
        return None


_NO_NUMBER = (
    "version is %r, and containerd takes nothing but a whole number without quotes and does not start with this file; "
    "write version = 2 (containerd 1.x) or version = 3 (containerd 2.x)"
)
_TOO_NEW_FOR_1 = (
    "version = %d is for containerd 2.x, and this containerd 1.x does not read the CRI settings of such a file; "
    "rewrite it for version = 2"
)
_OLD = (
    "config version %d cannot be edited; convert the file with `containerd config migrate` (containerd 1.7 or later), "
    "or start from `containerd config default`"
)
_UNKNOWN = (
    "config version %d is not known to this module, which knows 2, 3 and 4. A newer containerd reads these as well: "
    "write the file for version 4, or look for a newer release of the collection kubegpu.nvidia. Nothing was changed"
)


def _drop_in_version(document: toml_text.Document, main: int) -> int:
    """The version of a drop-in: one with the same tables as that of the file that imports it. With two versions
    containerd 2.1 takes the settings of only one of them and says so in a warning at most (tried on 2.1.9, both ways
    around)."""
    if not document.root.entries:
        return main
    version = version_of(document)
    if PREFIXES[version] != PREFIXES[main]:
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
    entry = document.find((_DISABLED,))
    if not isinstance(entry, toml_text.Entry):
        return None
    listed = toml_text.to_python(entry)
    if isinstance(listed, list) and any(item in CRI_PLUGINS for item in listed):
        return position(document.text, entry.start)[0]
    return None


def has_runtime(text: str | None, name: str) -> bool:
    """True if a config.toml (str or None) itself names the runtime. Raises ConfigError if it is not TOML."""
    document = keys.read(text or "")
    return any(document.find((*prefix, "runtimes", name)) is not None for prefix in PREFIXES.values())


def note_theirs(text: str | None, name: str, memory: Memory | None) -> Memory | None:
    """Return the Memory to keep for a file that stays as it is: a runtime called name that is there before the first
    run is not ours, and no later run may take it for ours."""
    if memory is None and text is not None and has_runtime(text, name):
        return Memory(text, digest(text))
    return memory


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
    editor = Editor(text or "", engine)
    slots = dict(memory.slots) if memory else {}
    if wanted.enable_cri:
        slots = _enable_cri(editor, slots)
    version = _drop_in_version(editor.document, drop_in_of) if drop_in_of else version_of(editor.document, engine)
    editor.prefix = PREFIXES[version]
    if memory is None or memory.wrote(text):
        before = text if memory is None else memory.before
    else:
        before = ensure_absent(text, wanted.name, memory, wanted.path, "keep", engine).text
    editor.created = list(memory.created) if memory else []

    current = _runtime(editor, wanted.name)
    ours = current is not None and _is_ours(editor, wanted.name, memory)
    found = current or (as_table(effective.runtime(wanted.name)) if effective is not None else None)
    conflict = None if found is None or ours else difference(found, wanted.path)
    if conflict is not None and wanted.on_conflict == "fail":
        raise _refuse(editor, wanted.name, conflict)
    template = _template(editor, wanted.name, effective, slots)
    former = _stated(editor, effective, wanted.name)
    if current is not None and not ours and _default(editor, effective) == wanted.name and former.systemd_cgroup:
        # It is what pods run with, so its cgroup driver is the kubelet's.
        template.options.pop(_CGROUP[-1], None)

    runc = False
    if not editor.document.root.entries:
        editor.append_block(["version = %d" % version])
    if wanted.set_default and editor.default() != wanted.name:
        raw = toml_text.string_text(wanted.name)
        slots = keep_slot(slots, DEFAULT, editor.raw((*editor.prefix, DEFAULT)), raw)
        editor.set_key(editor.prefix, DEFAULT, raw)
    elif wanted.set_default is False and editor.default() == wanted.name:
        _restore_default(editor, wanted.name, slots)
        runc = not drop_in_of and _ensure_runc(editor, effective, wanted.name, None if ours else former)
    if conflict is None or wanted.on_conflict == "replace":
        if not drop_in_of and editor.document.find((*editor.prefix, "runtimes")) is None:
            stated = _stated(editor, effective, "runc")
            fields = dict({"runtime_type": toml_text.string_text(RUNTIME_TYPE)}, **stated.fields)
            editor.append_runtime("runc", fields, stated.options, _NOTE)
        slots = _set_runtime(editor, wanted, template, slots, ours)

    if editor.text == text:
        return Edit(text, note_theirs(text, wanted.name, memory), version, conflict)
    return Edit(editor.text, Memory(before, digest(editor.text), slots, editor.created), version, conflict, runc)


def ensure_absent(
    text: str | None,
    name: str,
    memory: Memory | None = None,
    path: str | None = None,
    on_conflict: str = "replace",
    engine: int | None = None,
    effective: Effective | None = None,
    drop_in: bool = False,
) -> Edit:
    """Return the Edit that takes the runtime called name out of a config.toml (str or None).

    With a memory of ours a text that was not edited since comes back byte for byte; otherwise what we added is taken
    out, what we changed gets its former value, and everything else stays, a runtime of this name that was there before
    us as well. Without one the runtime is taken out, unless it neither has the path (None: any) nor is to be replaced
    (on_conflict: keep, replace or fail).
    effective: Effective of the text as it is now, or None if unknown. engine: containerd's major version (int) or None.
    drop_in: whether another file imports this one.
    Raises ConfigError if the text is not valid or cannot be edited safely.
    """
    if text is None:
        return Edit(None, None, None)
    editor = Editor(text, engine)
    if memory is not None and memory.wrote(text):
        version = version_in(keys.read(memory.before, engine)) if memory.before is not None else None
        return Edit(memory.before, None, version)
    version = version_in(editor.document)
    if version is None:
        if editor.document.find(("plugins", "cri", "containerd", "runtimes", name)) is not None:
            raise _no_version(editor.document)
        return Edit(text, None, None)
    editor.prefix = PREFIXES[version]
    created = list(memory.created) if memory else []
    slots = memory.slots if memory else {}
    former = _stated(editor, effective, name)
    for block in reversed(created):
        if editor.text.count(block) == 1 and not block.strip().startswith("version"):
            editor.change(editor.text.replace(block, ""))
    conflict = _remove_runtime(editor, name, memory, path, on_conflict)
    stays = _runtime(editor, name) is not None
    was_default = editor.default() == name and (DEFAULT in slots or not stays)
    if was_default:
        _restore_default(editor, name, slots)
    runc = False
    # What was so before us is not ours to put right.
    if editor.text != text and not stays and not drop_in and not (memory is not None and _lacks_runc(memory.before)):
        runc = _ensure_runc(editor, effective, name, former if was_default and memory is None else None)
    _restore_disabled(editor, memory)
    for block in created:
        editor.remove_empty_table(block.strip().splitlines()[0])
        # Whatever else is in the file by now needs its version.
        if block.strip().startswith("version") and list(editor.document.root.entries) == ["version"]:
            editor.change(editor.text.replace(block, "", 1))
    if memory is not None and memory.before is None and not editor.text.strip(BOM + " \t\r\n"):
        return Edit(None, None, None)
    return Edit(editor.text, None, version, conflict, runc)


def as_table(item: object) -> toml_text.Table | None:
    """Return what a Document has at a path as a Table, an inline one as well, None for anything else."""
    if isinstance(item, toml_text.Entry):
        item = item.value.table
    return item if isinstance(item, toml_text.Table) else None


def difference(runtime: toml_text.Table, path: str) -> str | None:
    """Return in what a runtime (Table) differs from one of ours with that path, None if it does not.

    The bare name of the program, which NVIDIA's packages write, is no difference: the shim looks it up in its PATH.
    """
    plain = toml_text.to_python(runtime)
    kind, options = plain.get("runtime_type"), plain.get("options")
    binary = options.get("BinaryName") if isinstance(options, dict) else None
    maker = "the NVIDIA GPU operator made it, and " if str(binary).startswith(OPERATOR) else ""
    if kind and kind != RUNTIME_TYPE:
        return "%sits runtime_type is %s, not %s" % (maker, json.dumps(kind), json.dumps(RUNTIME_TYPE))
    if binary not in (path, posixpath.basename(path)):
        return "%sits BinaryName is %s, not %s" % (maker, json.dumps(binary), json.dumps(path))
    return None


def _refuse(editor: Editor, name: str, conflict: str) -> ConfigError:
    message = (
        "the runtime %s is there already and not ours: %s. Nothing was changed. Keep it, have it replaced "
        "(on_conflict), or choose another name" % (json.dumps(name), conflict)
    )
    found = editor.document.find((*editor.prefix, "runtimes", name))
    return ConfigError(message) if found is None else error_at(editor.text, _start(found), message)


def _runtime(editor: Editor, name: str) -> toml_text.Table | None:
    return as_table(editor.document.find((*editor.prefix, "runtimes", name)))


def _is_ours(editor: Editor, name: str, memory: Memory | None) -> bool:
    """Whether an earlier run made the runtime, or what it is now."""
    if memory is None:
        return False
    slot = memory.slots.get(_slot(_BINARY))
    if slot is not None:
        return bool(editor.value((*editor.prefix, "runtimes", name, *_BINARY)) == toml_text.value_of(slot.set))
    return not has_runtime(memory.before, name)


def _slot(key: Tuple[str, ...]) -> str:
    return ".".join(key)


def _remove_runtime(editor: Editor, name: str, memory: Memory | None, path: str | None, on_conflict: str) -> str | None:
    """Take the runtime out, or give it back what it was before us; return the conflict (str) if it stays."""
    current = _runtime(editor, name)
    if current is None:
        return None
    ours = _is_ours(editor, name, memory)
    if memory is not None and has_runtime(memory.before, name):
        if ours or _slot(_BINARY) not in memory.slots:
            _restore_values(editor, name, memory.slots)
        return None
    conflict = None if ours or path is None else difference(current, path)
    if conflict is not None and on_conflict == "fail":
        raise _refuse(editor, name, conflict)
    if conflict is None or on_conflict == "replace":
        editor.remove_runtime(name)
        return None
    return conflict


def _restore_values(editor: Editor, name: str, slots: Dict[str, Slot]) -> None:
    for key in (_TYPE, _BINARY, _CGROUP):
        path, slot = (*editor.prefix, "runtimes", name, *key), slots.get(_slot(key))
        if slot is None or editor.raw(path) != slot.set:
            continue
        if slot.before is None:
            editor.remove_key(path)
        else:
            editor.set_key(path[:-1], path[-1], slot.before)


def _default(editor: Editor, effective: Effective | None) -> str:
    """The default runtime as containerd has it now."""
    return editor.default() or (effective.default_runtime_name if effective else None) or "runc"


def _restore_default(editor: Editor, name: str, slots: Dict[str, Slot]) -> None:
    former = slots[DEFAULT].before if DEFAULT in slots else None
    if former is not None:
        known = editor.document.find((*editor.prefix, "runtimes"))
        value = toml_text.value_of(former)
        names = known.entries if isinstance(known, toml_text.Table) else {}
        # A default that is gone since would keep CRI from starting.
        if value != name and (value == "runc" or value in names):
            editor.set_key(editor.prefix, DEFAULT, former)
            return
    editor.remove_key((*editor.prefix, DEFAULT))


def _lacks_runc(text: str | None) -> bool:
    """Whether a config.toml (str or None) has a table of runtimes without runc."""
    document = keys.read(text or "")
    tables = [as_table(document.find((*prefix, "runtimes"))) for prefix in PREFIXES.values()]
    return any(table is not None and "runc" not in table.entries for table in tables)


def _ensure_runc(editor: Editor, effective: Effective | None, name: str, former: _Template | None) -> bool:
    """Write runc down where it is the default from now on and containerd would not have it as pods need it; return
    whether that was so.

    containerd 1.x has no built-in runc beside a table of runtimes, be it empty. former: what the default runtime up to
    now had, a foreign one: runc gets its cgroup driver, which is the kubelet's. None: pods ran with runc before.
    """
    if _default(editor, None if effective and effective.default_runtime_name == name else effective) != "runc":
        return False
    runtimes = as_table(editor.document.find((*editor.prefix, "runtimes")))
    if runtimes is not None and "runc" in runtimes.entries:
        return False
    built_in = (editor.engine is not None and editor.engine >= 2) or editor.prefix != PREFIXES[2]
    driver = former.systemd_cgroup if former is not None else None
    same = driver is None or _stated(editor, effective, "runc").systemd_cgroup == driver
    if (built_in or runtimes is None) and (same or driver == "false"):
        return False
    options = {} if driver is None else {_CGROUP[-1]: driver}
    note = "# Written down because it is the default runtime again."
    editor.append_runtime("runc", {"runtime_type": toml_text.string_text(RUNTIME_TYPE)}, options, note)
    return True


@dataclass(frozen=True)
class _Template:
    """Key -> raw TOML text of a runtime and of its options."""

    fields: Dict[str, str] = field(default_factory=dict)
    options: Dict[str, str] = field(default_factory=dict)

    @property
    def systemd_cgroup(self) -> str | None:
        return self.options.get(_CGROUP[-1])


def _template(editor: Editor, name: str, effective: Effective | None, slots: Dict[str, Slot]) -> _Template:
    """What the default runtime (if it is of runc's kind, else runc) states, except for its binary."""
    default = _default(editor, effective)
    if default == name:
        former = slots[DEFAULT].before if DEFAULT in slots else None
        default = toml_text.value_of(former) if former else "runc"
    fields = {"runtime_type": toml_text.string_text(RUNTIME_TYPE)}
    for candidate in (default, "runc"):
        stated = _stated(editor, effective, candidate)
        kind = toml_text.value_of(stated.fields.get("runtime_type", '""'))
        if candidate != name and (kind or (RUNTIME_TYPE if candidate == "runc" else "")).startswith(
            "io.containerd.runc."
        ):
            stated.options.pop(_BINARY[-1], None)
            return _Template(dict(stated.fields, **fields), stated.options)
    return _Template(fields)


def _stated(editor: Editor, effective: Effective | None, name: str) -> _Template:
    """What a runtime has from the operator's files: everything that is not at Go's zero value, and SystemdCgroup if the
    file itself states it. A zero in what containerd printed may be its own default, which says nothing."""
    merged = as_table(effective.runtime(name)) if effective is not None else None
    in_file = _runtime(editor, name)
    files = (editor.document, effective.document if effective is not None else editor.document)
    options = [as_table(table.entries.get("options")) if table is not None else None for table in (in_file, merged)]
    return _Template(_values(files, in_file, merged), _values(files, options[0], options[1]))


def _values(
    documents: Tuple[toml_text.Document, toml_text.Document],
    in_file: toml_text.Table | None,
    merged: toml_text.Table | None,
) -> Dict[str, str]:
    """Key -> raw text: as containerd has it, spelled as in the file where that says the same."""
    found = {}
    tables = [table.entries if table is not None else {} for table in (in_file, merged)]
    for key in [*tables[1], *[key for key in tables[0] if key not in tables[1]]]:
        here, entry = tables[0].get(key), tables[1].get(key, tables[0].get(key))
        if not isinstance(entry, toml_text.Entry) or entry.value.table is not None:
            continue
        value = toml_text.to_python(entry)
        if is_zero(value) and not (here is not None and key == _CGROUP[-1]):
            continue
        if isinstance(here, toml_text.Entry) and toml_text.to_python(here) == value:
            found[key] = documents[0].raw(here.value)
        else:
            found[key] = documents[1].raw(entry.value)
    return found


def _set_runtime(
    editor: Editor, wanted: ContainerdRuntime, template: _Template, slots: Dict[str, Slot], ours: bool
) -> Dict[str, Slot]:
    """Add or change the runtime; return the slots."""
    path = (*editor.prefix, "runtimes", wanted.name)
    binary = toml_text.string_text(wanted.path)
    if editor.document.find(path) is None:
        editor.append_runtime(wanted.name, template.fields, dict({_BINARY[-1]: binary}, **template.options))
        return dict(slots, **{_slot(_BINARY): Slot(binary, None)})
    if ours and _slot(_BINARY) not in slots:
        slots = dict(slots, **{_slot(_BINARY): Slot(editor.raw((*path, *_BINARY)) or binary, None)})
    current = _runtime(editor, wanted.name)
    values = {_TYPE: toml_text.string_text(RUNTIME_TYPE), _BINARY: binary, _CGROUP: template.systemd_cgroup}
    if not ours and current is not None and difference(current, wanted.path) is None:
        del values[_BINARY]
    for key, raw in values.items():
        if raw is None or editor.value((*path, *key)) == toml_text.value_of(raw):
            continue
        slots = keep_slot(slots, _slot(key), editor.raw((*path, *key)), raw)
        editor.set_key((*path, *key[:-1]), key[-1], raw)
    return slots


def switch_cri_on(text: str | None, engine: int | None = None) -> str:
    """Return a config.toml (str or None) with CRI out of its disabled_plugins, or as it is if that cannot be done."""
    editor = Editor(text or "", engine)
    _enable_cri(editor, {})
    return editor.text


def _enable_cri(editor: Editor, slots: Dict[str, Slot]) -> Dict[str, Slot]:
    """Take CRI out of disabled_plugins; return the slots. A file without a version gets one, if nothing in it means
    something else with one."""
    entry = editor.document.find((_DISABLED,))
    if disabled_cri(editor.document) is None or not isinstance(entry, toml_text.Entry):
        return slots
    left = [item for item in entry.value.items if item.value not in CRI_PLUGINS]
    no_version = editor.document.find(("version",)) is None
    if no_version and (
        editor.document.find(("plugins",)) is not None
        or editor.document.find(("required_plugins",)) is not None
        or any("." not in str(item.value) for item in left)
    ):
        return slots
    raw = "[%s]" % ", ".join(map(editor.document.raw, left))
    slots = keep_slot(slots, _DISABLED, editor.raw((_DISABLED,)), raw)
    text = editor.text[: entry.value.start] + raw + editor.text[entry.value.end :]
    if no_version:
        at = max(editor.line_start(entry.start), len(BOM) if text.startswith(BOM) else 0)
        version = 3 if editor.engine is not None and editor.engine >= 2 else 2
        text = "%sversion = %d%s%s" % (text[:at], version, editor.newline, text[at:])
    editor.change(text)
    return slots


def _restore_disabled(editor: Editor, memory: Memory | None) -> None:
    """Switch CRI off again if we switched it on, unless that means a name that the file's version does not have."""
    slot = memory.slots.get(_DISABLED) if memory is not None else None
    if memory is None or slot is None or slot.before is None or editor.raw((_DISABLED,)) != slot.set:
        return
    entry = editor.document.find((_DISABLED,))
    if isinstance(entry, toml_text.Entry) and keys.read(memory.before or "").find(("version",)) is not None:
        editor.change(editor.text[: entry.value.start] + slot.before + editor.text[entry.value.end :])
