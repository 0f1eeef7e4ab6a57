# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several questions to an API server, each with its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def read_all(
    find: Callable[..., dict[str, Any]], queries: list[tuple[dict[str, Any], Callable[[Any], Any]]]
) -> tuple[list[dict[str, Any]], str]:
    """Ask everything, whatever fails.

    Args:
        find: takes the keys of a query as keywords, and returns ``{"resources": [object], "api_found": bool}`` or
            raises an exception that says why it cannot.
        queries (list[tuple]): each a dict with ``kind``, ``api_version`` and what else ``find`` takes, and a function
            that returns of an object what is wanted of it, or None if nothing is.

    Returns:
        tuple[list[dict], str]: in the queries' order what ``find`` returned, or ``msg`` with the exception's words,
        each with the query as ``item``, as a loop's results are; and what the first failure said, with the kind, or
        nothing.
    """
    answers: list[dict[str, Any]] = []
    problem = ""
    for query, cut in queries:
        try:
            answer = find(**query)
            wanted = [cut(thing) for thing in answer["resources"]]
            answer = {**answer, "resources": [thing for thing in wanted if thing is not None]}
        except Exception as error:  # the client lets through what its HTTP library raises
            answer = {"msg": str(error) or type(error).__name__}
            problem = problem or "%s: %s" % (query["kind"], answer["msg"])
        answers.append({**answer, "item": query})
    return answers, problem
