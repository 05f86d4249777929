"""The check of a plain site: every reference of its pages to the site itself leads to a file."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from adapters.builds import check_site

PAGE = '<!doctype html><title>Shop</title><link rel="stylesheet" href="style.css">\n'


def checked(folder: Path, files: Mapping[str, str]) -> tuple[int, str]:
    """Run it as a build does: a program of its own in the site's directory."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    argv = [sys.executable, "-I", check_site.__file__]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "reference",
    [
        *("style.css", "./style.css?v=2", "/style.css", "/shop/style.css", "my%20page.html#top"),
        *("team", "team/", "blog", "sub/../style.css", "#top", "", "  style.css ", "?page=2"),
        *("https://example.invalid/x.css", "//example.invalid/x", "mailto:a@b.c", "data:,x"),
        *("{{ url }}", "<%= url %>", "${url}"),
    ],
)
def test_what_leads_to_a_file_or_out_of_the_site_is_green(tmp_path: Path, reference: str) -> None:
    files = {"style.css": "", "my page.html": "", "team/index.html": "", "blog.html": ""}

    code, said = checked(tmp_path, {**files, "index.html": f"{PAGE}<a href='{reference}'>x</a>"})

    assert (code, said) == (0, "Checked 4 pages.\n")


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("<a href='aboot.html'>", "index.html:2: aboot.html is not there"),
        ("\n<img\nsrc='/logo.png'>", "index.html:3: /logo.png is not there"),
        ("<script src='../outside.js'>", "index.html:2: ../outside.js is not there"),
        ("<img srcset='a.png 1x, b.png 2x'>", "index.html:2: a.png is not there"),
        ("<a href='empty/'>", "index.html:2: empty/ is not there"),
        ("<a href='Style.css'>", "index.html:2: Style.css is not there"),
        ("<a href='/\x1b[2J'>", "index.html:2: /\\x1b[2J is not there"),
    ],
)
def test_a_reference_that_leads_nowhere_is_red_with_its_line(
    tmp_path: Path, page: str, wrong: str
) -> None:
    site = tmp_path / "site"
    (tmp_path / "outside.js").write_text("")

    code, said = checked(site, {"style.css": "", "empty/x": "", "index.html": f"{PAGE}{page}"})

    assert code == 1
    assert said.splitlines()[0] == wrong


def test_a_base_moves_what_is_relative_to_it(tmp_path: Path) -> None:
    files = {"assets/style.css": "", "index.html": f'<base href="assets/">{PAGE}'}
    elsewhere = f'<base href="https://example.invalid/">{PAGE}'

    assert checked(tmp_path / "a", files)[0] == 0
    assert checked(tmp_path / "b", {**files, "assets/style.css": "", "index.html": PAGE})[0] == 1
    assert checked(tmp_path / "c", {"index.html": elsewhere})[0] == 0


def test_a_site_without_a_page_is_red_and_hidden_folders_are_no_part_of_it(tmp_path: Path) -> None:
    hidden = {".git/x.html": "<a href=nowhere>", "node_modules/a/x.html": "<a href=nowhere>"}

    assert checked(tmp_path, hidden) == (1, "There is no page: no file ends in .html.\n")
