"""The build that `init` proposes for a plain site, which has no build of its own.

Every reference of a page to the site itself must lead to a file. A program of its own, which runs
in the site's directory: standard library only.
"""

import os
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

PAGES = (".html", ".htm")
SHOWN = 50
_INDEX = ("index.html", "index.htm")
_ATTRIBUTES = frozenset(("href", "src", "poster"))
_TEMPLATE = re.compile(r"\{\{|\{%|<%|\$\{")
"""What a program fills in later."""
_NO_PART_OF_IT = frozenset(("node_modules",))


class _References(HTMLParser):
    """What one page refers to, each with its line."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.found: list[tuple[int, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the attributes of a tag refer to."""
        line = self.getpos()[0]
        for name, value in attrs:
            if not value:
                continue
            if tag == "base" and name == "href":
                self.base = self.base or value
            elif name in _ATTRIBUTES:
                self.found.append((line, value.strip()))
            elif name == "srcset":
                each = (part.split() for part in value.split(","))
                self.found.extend((line, words[0]) for words in each if words)


def broken(site: Path, page: Path) -> Iterator[str]:
    """The references of a page that lead to no file of the site, in words."""
    references = _References()
    references.feed(page.read_text(encoding="utf-8", errors="replace"))
    name = page.relative_to(site).as_posix()
    for line, reference in references.found:
        if _TEMPLATE.search(reference) or _TEMPLATE.search(references.base):
            continue
        try:
            to = urlsplit(urljoin(references.base, reference))
        except ValueError:  # not even an address
            yield f"{_plain(name)}:{line}: {_plain(reference)} is no address"
            continue
        if to.scheme or to.netloc or not to.path:
            continue
        if not _leads_to_a_file(site, page, unquote(to.path)):
            yield f"{_plain(name)}:{line}: {_plain(reference)} is not there"


def _leads_to_a_file(site: Path, page: Path, path: str) -> bool:
    if not path.startswith("/"):
        return _is_served(site, page.parent / path)
    # It may be served below a path of its own, as project pages are.
    below = path.lstrip("/").partition("/")[2]
    return _is_served(site, site / path.lstrip("/")) or (
        bool(below) and _is_served(site, site / below)
    )


def _is_served(site: Path, place: Path) -> bool:
    """Whether a server of files would find something for that path, within the site."""
    try:
        real = Path(os.path.normpath(place))
        if not real.is_relative_to(site):
            return False
        pages = [real / name for name in _INDEX] if real.is_dir() else [real, _with_suffix(real)]
        return any(each.is_file() for each in pages)
    except (OSError, ValueError):  # no path that a file could have
        return False


def _with_suffix(place: Path) -> Path:
    return place.with_name(f"{place.name}.html")


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def _pages(site: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(site):
        folders[:] = sorted(
            each for each in folders if not each.startswith(".") and each not in _NO_PART_OF_IT
        )
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(PAGES))


def main() -> int:
    """Check the site in the current directory; 1 if anything leads nowhere."""
    site = Path.cwd()
    pages = list(_pages(site))
    if not pages:
        print("There is no page: no file ends in .html.")
        return 1
    wrong = [each for page in pages for each in broken(site, page)]
    for each in wrong[:SHOWN]:
        print(each)
    if len(wrong) > SHOWN:
        print(f"… and {len(wrong) - SHOWN} more")
    count = f"{len(pages)} page{'' if len(pages) == 1 else 's'}"
    print(f"Checked {count}{f': {len(wrong)} references lead nowhere' if wrong else ''}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
