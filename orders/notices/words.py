"""Text on its way out: bounded, on one line where a header needs it, and nothing in it that the receiver obeys."""

import re

SUBJECT_MAX, BODY_MAX, SLACK_MAX = 150, 1000, 3000


def line(text: str, most: int = SUBJECT_MAX) -> str:
    """One line of visible characters: what would break a mail's header or a terminal becomes a space."""
    clean = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def paragraph(text: str) -> str:
    """Lines of visible characters, bounded; empty ones are left out."""
    lines = (line(each, BODY_MAX) for each in text.splitlines())
    return "\n".join(filter(None, lines))[:BODY_MAX]


def slack(subject: str, body: str, url: str) -> str:
    """Slack's own markup, with everything of ours escaped: no mention, link or format comes out of it."""
    return f"*{_escaped(subject)}*\n{_escaped(body)}\n<{url}|Open it in Cerbero>"[:SLACK_MAX]


def _escaped(text: str) -> str:
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A letter that is not seen parts the signs of bold, italics, struck text and code from what they would format.
    return re.sub(r"([*_~`])", "\N{ZERO WIDTH SPACE}\\1", plain)
