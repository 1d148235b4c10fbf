"""The text of VNNLIB files of either version as nested lists of words.

What the words mean is for `vnnlib` to say. Text in strings and comments never becomes a word, and
what one tool may take for their end and another may not is refused.
"""

import re
from collections.abc import Iterator
from pathlib import Path

DEEPEST = 100  # nested parentheses
# Comments, strings, parentheses, words; what is left over belongs to none of them.
TOKENS_1 = re.compile(r';[^\n]*|"(?:[^"]|"")*"|\|[^|]*\||[()]|[^\s();"|]+|["|]', re.ASCII)
# In version 2.0 a name and the indices or the shape after it are one word: `X [0, 2]`.
TOKENS_2 = re.compile(
    r';[^\n]*|"[^"]*"|[()]|[A-Za-z]\w*\s*\[[^][()";|]*\]|[^][\s(),;"|]+|[][,"|]', re.ASCII
)
_FIRST = re.compile(r"(?:\s|;[^\n]*(?:\n|\Z))*\(\s*vnnlib-version(?![^\s()])", re.ASCII)


def tokens(text: str) -> re.Pattern:
    """The pattern of the tokens of a file: the first expression says if the version is new."""
    return TOKENS_2 if _FIRST.match(text) else TOKENS_1


def forms(path: Path, text: str, pattern: re.Pattern) -> Iterator[tuple[int, list]]:
    """Each expression at the top with its line; nested lists of words."""
    stack, start = [], 0

    def fail(why, position):
        line = text.count("\n", 0, position) + 1
        return ValueError(f"{path}, line {line}: {why}")

    line, counted = 1, 0
    for match in pattern.finditer(text):
        token = match.group()
        if token[0] == ";":
            if "\r" in token[:-1]:
                raise fail("a carriage return may end this comment, or not", match.start())
            continue
        if token in ('"', "|"):
            raise fail(f"this {token} is never closed", match.start())
        if token in ("[", "]", ","):
            raise fail(f"this {token} stands beside no name", match.start())
        if token[0] in '"|' and "\\" in token:
            raise fail("a backslash in quotes, which may escape their end, or not", match.start())
        if token == "(":
            if not stack:
                start = match.start()
            if len(stack) == DEEPEST:
                raise fail(f"more than {DEEPEST} nested parentheses", match.start())
            stack.append([])
        elif not stack:
            raise fail(f"{token!r} outside of parentheses", match.start())
        elif token == ")":
            form = stack.pop()
            if stack:
                stack[-1].append(form)
            else:
                line, counted = line + text.count("\n", counted, start), start
                yield line, form
        else:
            stack[-1].append(token)
    if stack:
        raise fail("this parenthesis is never closed", start)


def show(form: list | str) -> str:
    """An expression as text, shortened."""
    text = f"({' '.join(map(show, form))})" if isinstance(form, list) else str(form)
    return text if len(text) <= 80 else text[:77] + "..."
