"""Rewrites protoc's Python so that it keeps the style rules of collections: usage: tidy-messages.py FILE…

The statements stay the same; only their layout changes. protoc writes a descriptor as one line of some thousand
characters and indents by two.
"""

import ast
import sys
from pathlib import Path

WIDTH = 60
"""Bytes of a descriptor in one line of source; written as escapes they take up to four characters each."""


def tidy(source: str) -> str:
    lines = source.splitlines()
    head = [line for line in lines[: next(i for i, line in enumerate(lines) if line.startswith('"""'))] if line]
    statements = []
    for statement in ast.parse(source).body:
        text = ast.unparse(statement)
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes) and len(node.value) > WIDTH:
                pieces = [node.value[i : i + WIDTH] for i in range(0, len(node.value), WIDTH)]
                text = text.replace(ast.unparse(node), "\n" + "".join(f"    {piece!r}\n" for piece in pieces))
        statements.append(text)
    return "\n".join([*head, *statements]) + "\n"


for name in sys.argv[1:]:
    path = Path(name)
    path.write_text(tidy(path.read_text(encoding="utf-8")), encoding="utf-8")
