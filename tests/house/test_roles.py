"""Every role has what a stranger needs, and says the same everywhere."""

from __future__ import annotations

import re

import pytest

from tests.house.repository import ROLES, ROOT, load

roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def fallback(value):
    """What is left of a switch that a variable for all roles may set, where nobody sets it.

    A specification says that alone: antsibull-docs takes nothing else for a boolean.
    """
    shared = re.fullmatch(r"\{\{ kubegpu_\w+ \| default\((true|false)\) \| bool \}\}", str(value))
    return shared[1] == "true" if shared else value


@roles
def test_a_role_has_readme_specification_and_metadata(role):
    assert (role / "README.md").read_text(encoding="utf-8").startswith(f"# {role.name}\n")
    assert load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["short_description"]
    info = load(role / "meta" / "main.yml")["galaxy_info"]
    assert info["description"] and info["license"] == "GPL-3.0-or-later"
    assert {platform["name"] for platform in info["platforms"]} >= {"Debian", "Ubuntu"}


@roles
def test_metadata_ask_for_the_ansible_that_the_collection_asks_for(role):
    wanted = load(ROOT / "meta" / "runtime.yml")["requires_ansible"]
    assert wanted == f">={load(role / 'meta' / 'main.yml')['galaxy_info']['min_ansible_version']}.0"


@roles
def test_defaults_and_specification_name_the_same_variables_with_the_same_values(role):
    defaults = load(role / "defaults" / "main.yml") or {}
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    optional = {name: option for name, option in options.items() if not option.get("required")}
    without_value = {name for name, option in optional.items() if "default" not in option}
    assert set(defaults) == set(optional) - (without_value - set(defaults))
    assert {name: fallback(value) for name, value in defaults.items()} == {
        name: fallback(optional[name].get("default")) for name in defaults
    }


KINDS = {
    "str": str,
    "path": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "list": list,
    "dict": dict,
    "raw": object,
}


@roles
def test_a_default_is_of_the_type_and_among_the_choices_that_the_specification_names(role):
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    wrong = []
    for name, value in (load(role / "defaults" / "main.yml") or {}).items():
        option, value = options[name], fallback(value)
        if isinstance(value, str) and "{{" in value:
            continue
        # a number that is also a word, such as a version, must stand in quotes
        of_kind = isinstance(value, KINDS[option["type"]])
        if isinstance(value, bool) and option["type"] not in ("bool", "raw"):
            of_kind = False
        chosen = value if isinstance(value, list) else [value]
        if not of_kind or set(map(str, chosen)) - set(map(str, option.get("choices", chosen))):
            wrong.append((name, value))
    assert wrong == []


@roles
def test_every_variable_carries_the_roles_name_a_type_and_a_description(role):
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    nameless = [name for name in options if not name.startswith((f"{role.name}_", "kubegpu_"))]
    assert nameless == []
    assert [name for name, option in options.items() if not option.get("type") or not option.get("description")] == []


@roles
def test_the_readme_names_no_variable_that_does_not_exist(role):
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    text = (role / "README.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((role / "tasks").glob("*.yml")))
    named = set(re.findall(rf"`({role.name}_\w+?)`", text))
    assert {name for name in named - set(options) if name not in sources} == set()


@roles
def test_no_pipe_is_closed_before_its_writer_is_done(role):
    """With pipefail, what closes a pipe early turns a hit into a failure whenever the writer has more to say."""
    early = re.compile(r"\|\s*(?:grep\s+(?:-\w*q|--quiet|--silent|-\w*m)|head\b|sed\s[^|]*\bq\b|awk\s[^|]*\bexit\b)")
    files = [path for folder in ("tasks", "handlers", "vars") for path in sorted((role / folder).rglob("*.yml"))]
    assert early.search("rpm -q --list x | grep -qx y")
    assert [path.name for path in files if early.search(path.read_text(encoding="utf-8"))] == []
