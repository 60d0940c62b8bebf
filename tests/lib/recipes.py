# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The commands of a page of ours, run as they stand there, but for addresses and paths.

    blocks(page)                 the indented blocks of a Markdown file, each without its indentation
    block(page, "sqlite3 -box")  the one that contains this
    adapt(text, {"old": "new"})  replaced; each must be there
"""

import re
import textwrap


def blocks(page):
    return [textwrap.dedent(b).strip("\n") for b in re.findall(r"(?:^(?: {4}.*)?\n)+", page.read_text(), re.M) if b.strip()]


def block(page, text):
    found = [b for b in blocks(page) if text in b]
    assert len(found) == 1, f"{len(found)} blocks of {page.name} contain '{text}'"
    return found[0]


def adapt(text, replaced):
    for old, new in replaced.items():
        assert old in text, f"'{old}' is not in: {text}"
        text = text.replace(old, str(new))
    return text
