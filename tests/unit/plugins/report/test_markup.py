# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.report import markup

BREAKERS = ["<", ">", '"', "'", "&", "</td>", "</script>", "<!--", "-->", "]]>", "{{", "%}", "\x00", "\u202e", "\ud800"]
hostile = st.lists(st.one_of(st.sampled_from(BREAKERS), st.text(alphabet=st.characters(codec=None), max_size=8))).map(
    "".join
)


class Seen(HTMLParser):
    """What a parser makes of a text: tags with their attributes, and the text between them."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.words: list[str] = []
        self.others: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)


@given(hostile, hostile)
def test_text_stays_text_wherever_it_stands(title: str, words: str) -> None:
    made = markup.element("td", {"title": title, "data-sort": words}, words, markup.element("b", None, title))
    seen = Seen(made)
    assert seen.tags == [("td", [("title", markup.clean(title)), ("data-sort", markup.clean(words))]), ("b", [])]
    assert "".join(seen.words) == markup.clean(words) + markup.clean(title)
    assert seen.others == []
    made.encode("utf-8")
    assert not {"{", "}", "\u202e", "\x00"} & set(made)


@given(hostile)
def test_what_is_markup_is_not_escaped_again(words: str) -> None:
    once = markup.escape(words)
    assert markup.escape(once) == once
    assert markup.join([once, None, False, [once]]) == once + once


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, "", id="none"),
        pytest.param(0, "0", id="zero"),
        pytest.param({"a": "<"}, "&#123;&#39;a&#39;: &#39;&lt;&#39;&#125;", id="dict"),
        pytest.param("a\r\nb", "a\n\nb", id="lines"),
        pytest.param("\x07\x9f", "\ufffd\ufffd", id="controls"),
    ],
)
def test_escape(value: object, expected: str) -> None:
    assert markup.escape(value) == expected


def test_attributes_that_are_left_out_or_have_no_value() -> None:
    assert markup.element("input", {"hidden": True, "title": None, "open": False}) == "<input hidden>"


@pytest.mark.parametrize("name", ["", "a b", "a>", "1a", "onclick=x"])
def test_names_are_names(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of an element"):
        markup.element(name)
    with pytest.raises(ValueError, match="is no name of an attribute"):
        markup.element("p", {name: "x"})


@pytest.mark.parametrize("text", ["a</script>b", "a</STYLE", "x <!-- y"])
def test_a_script_that_would_end_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the text of <script> would end it"):
        markup.raw("script", None, text)
    assert markup.raw("script", None, "1 < 2 && 3") == "<script>1 < 2 && 3</script>"
