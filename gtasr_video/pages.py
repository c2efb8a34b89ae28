"""Pages as one HTML file that needs nothing beside it: style and pictures are inside."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.scroll, .panels { overflow-x: auto; }
.panels { display: flex; gap: .75rem; padding-bottom: 1rem; }
figure { margin: 0; flex: none; }
figure img { display: block; width: 320px; image-rendering: pixelated; margin-top: .35rem; }
figcaption small { display: block; opacity: .75; }
summary { cursor: pointer; }
"""


def page(title: str, body: str, style: str = "") -> str:
    """Return a whole page; `body` is HTML, `style` is CSS beyond `STYLE`."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{STYLE}{style}</style></head><body>{body}</body></html>\n"
    )


def image(data: bytes, kind: str, text: str) -> str:
    """Return an image element that holds the file `data` of a media type such as ``image/png``."""
    source = base64.b64encode(data).decode()
    return f'<img alt="{escape(text, quote=True)}" src="data:{kind};base64,{source}">'


def write_page(path: Path, text: str) -> None:
    """Write a page to `path`, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
