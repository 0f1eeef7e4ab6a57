# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cuts an object down to what a JMESPath expression names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


class QueryError(Exception):
    """An expression that is not valid, or does not fit an object. Its text never has a value of the object."""


def cutter(expression: str) -> Callable[[Any], Any]:
    """A function that returns what the expression finds in an object, without the keys that have no value.

    It knows one function more than JMESPath: ``matching(value, 'regular expression')``. Of an object it keeps the
    members whose key matches; of a list of strings, the parts of them that match.

    Raises:
        ImportError: the library jmespath is missing.
        QueryError: the expression is not valid.
    """
    import jmespath  # type: ignore[import-untyped]
    from jmespath import exceptions, functions

    signature = functions.signature({"types": ["object", "array", "null"]}, {"types": ["string"]})
    extended = type("Functions", (functions.Functions,), {"_func_matching": signature(_matching)})
    try:
        compiled = jmespath.compile(expression)
    except exceptions.JMESPathError as error:
        raise QueryError("not a valid JMESPath expression: %s" % error) from error

    def cut(thing: Any) -> Any:
        try:
            found = compiled.search(thing, options=jmespath.Options(custom_functions=extended()))
        except exceptions.JMESPathTypeError as error:
            # its own text shows the value
            raise QueryError("%s() cannot take a value of type %s" % (error.function_name, error.actual_type)) from None
        except exceptions.JMESPathError as error:
            raise QueryError(str(error)) from None
        return _without_nulls(found)

    return cut


def _matching(_functions: Any, value: Any, pattern: str) -> Any:
    try:
        wanted = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise QueryError("matching(): %s is not a regular expression: %s" % (pattern, error)) from None
    if isinstance(value, list):
        return [found.group() for text in value for found in wanted.finditer(str(text))]
    return {key: member for key, member in (value or {}).items() if wanted.search(key)} or None


def _without_nulls(value: Any) -> Any:
    """An expression gives null to a key that the object lacks; Kubernetes leaves such keys out."""
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return [_without_nulls(member) for member in value] if isinstance(value, list) else value
