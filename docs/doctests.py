"""Griffe extension: doctests of docstrings are code in the page, not quotations."""

import re

import griffe

_DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts each doctest between fences."""

    def on_object(self, *, obj, **kwargs):
        """Called for every module, class, function and attribute that was read."""
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
