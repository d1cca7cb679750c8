"""How tests read a page that holds all it shows."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image


class Page(HTMLParser):
    """What a page loads or points to, its tables as rows of cell texts, and its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.references, self.tags, self.text, self.tables = [], [], "", []
        self._cell = False
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"):
                self.references.append(value)
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "small":
            self.tables[-1][-1][-1] += " "
        self._cell = tag in ("td", "th") or (self._cell and tag not in ("table", "tr"))

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th", "tr", "table")

    def handle_data(self, data):
        self.text += data
        if self._cell and self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data

    def table_of(self, heading: str) -> int:
        """Return which of the page's tables is the first with this heading of a column."""
        return next(
            n for n, rows in enumerate(self.tables) if any(" ".join(cell.split()) == heading for cell in rows[0])
        )

    def row(self, table: int, name: str) -> list[str]:
        """Return the cells of a row by its first one."""
        return next(
            [" ".join(cell.split()) for cell in row[1:]] for row in self.tables[table] if row[0].strip() == name
        )

    def pictures(self) -> list[Image.Image]:
        """Return all pictures, opened."""
        opened = []
        for reference in self.references:
            if reference.startswith("data:image/"):
                kind, _, data = reference.partition(";base64,")
                opened.append(Image.open(io.BytesIO(base64.b64decode(data))))
                opened[-1].load()
                assert f"data:image/{opened[-1].format.lower()}" == kind
        return opened

    def assert_holds_all_it_shows(self) -> None:
        assert [one for one in self.references if not one.startswith(("data:", "#"))] == []
        assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]*", "", self.source))
        assert "link" not in [tag for tag, ref in zip(self.tags, self.references, strict=False) if not ref]
        assert {"iframe", "object", "embed", "form"} & set(self.tags) == set()
