"""The gallery: every picture of docs/gallery, with the words and the section that show it in the README or in a document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

SHOWN = re.compile(r"!\[([^\]]*)\]\((?:docs/)?gallery/([^)]+)\)")
# What shows pictures, and the section of those that stand below no heading of their own.
DOCUMENTS = {"README.md": "Pictures first", "docs/results.md": "Results"}


class Picture(NamedTuple):
    """A picture.

    file: its name in docs/gallery.
    caption: its alternative text.
    section: the heading that it stands below.
    """

    file: str
    caption: str
    section: str

    @property
    def stem(self) -> str:
        """Its name without ending."""
        return Path(self.file).stem

    @property
    def sentence(self) -> str:
        """Its caption, as a sentence begins."""
        return self.caption[:1].upper() + self.caption[1:]

    def markdown(self, root: str) -> str:
        """Picture and caption.

        root: the way from the page to the root of the pages.
        """
        return f"![{self.caption}]({root}/docs/gallery/{self.file})\n\n*{self.sentence}*"

    def figure(self) -> str:
        """Picture and caption, which leads to the picture at its own size, on a page at the root."""
        return f"```{{figure}} docs/gallery/{self.file}\n:alt: {self.caption}\n:target: _images/{self.file}\n\n{self.sentence}\n```"


def find(root: Path) -> list[Picture]:
    """All pictures of the gallery that a document shows, in the order in which documents show them.

    root: of the repository.
    """
    found: dict[str, Picture] = {}
    for document, section in DOCUMENTS.items():
        for line in (root / document).read_text(encoding="utf-8").splitlines():
            if (heading := re.fullmatch(r"##+ (.+)", line)) and document != "README.md":
                section = heading[1]
            for caption, file in SHOWN.findall(line):
                if file not in found or document != "README.md":          # elsewhere the section says more
                    found[file] = Picture(file, caption, section)
    return list(found.values())


def page(pictures: list[Picture]) -> str:
    """The page that shows them all, by section."""
    about = "Each picture was made by running code: [results](docs/results.md) says by which, of what, and how long that was trained."
    parts = ["# Gallery", about]
    for section in dict.fromkeys(each.section for each in pictures):
        shown = [each.figure() for each in pictures if each.section == section]
        parts += [f"## {section}", "\n".join(["````{container} gallery", *shown, "````"])]
    return "\n\n".join(parts) + "\n"
