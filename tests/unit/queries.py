"""What the roles' own queries leave of an object, so that tests of filters judge what the filters are given."""

from __future__ import annotations

import re
from typing import Any

import jinja2

from ansible_collections.kubegpu.nvidia.plugins.module_utils.kubernetes.cutting import cutter
from tests.house.repository import ROOT, load

ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701  (no HTML)
ENVIRONMENT.filters["regex_escape"] = re.escape


def query(name: str) -> str:
    """A query of a role, by the name of its variable."""
    folder = ROOT / "roles" / next(role for role in ("verify", "report", "device_plugin") if role in name.lstrip("_"))
    variables = {**load(folder / "defaults" / "main.yml"), **load(folder / "vars" / "main.yml")}
    text, rendered = variables[name], ""
    while "{{" in text and text != rendered:
        text, rendered = ENVIRONMENT.from_string(text).render(variables), text
    return str(text)


def cut(name: str, things: list[Any]) -> list[Any]:
    """Objects as the module k8s_kinds_info returns them."""
    return [found for found in map(cutter(query(name)), things) if found is not None]
