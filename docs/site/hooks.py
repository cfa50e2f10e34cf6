"""What mkdocs does not do by itself: pages from outside of docs/, links as GitHub has them, and KaTeX from Debian."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
KATEX = Path("/usr/share/javascript/katex")
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```[\s\S]*?^```$|^(?: {4}.*\n)+)", re.MULTILINE)


def on_config(config):
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files, config):
    for file in list(files):
        if file.src_uri.startswith(("site/hooks", "site/mkdocs", "site/__", "results/")):
            files.remove(file)
    for name in OUTSIDE:
        files.append(File(name, str(ROOT), config["site_dir"], use_directory_urls=False))
    for path in [KATEX / "katex.min.js", KATEX / "katex.min.css", *sorted((KATEX / "fonts").glob("*.woff2"))]:
        name = "katex/" + path.relative_to(KATEX).as_posix()
        files.append(File(name, str(KATEX.parent), config["site_dir"], use_directory_urls=False))
    return files


def link_of_site(match, folder):
    """A link of the repository as one of the site; what is no page loses its link and keeps its text."""
    image, text, target = match.groups()
    if "://" in target or target.startswith("#"):
        return match.group(0)
    path, _, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(folder, path))
    if path.startswith("docs/"):
        path = path.removeprefix("docs/")
    elif path not in OUTSIDE:
        return text
    return f"{image}[{text}]({path}{'#' + anchor if anchor else ''})"


def on_page_markdown(markdown, page, config, files):
    folder = "" if page.file.src_uri in OUTSIDE else "docs"
    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(lambda match: link_of_site(match, folder), part) for part in parts[::2]]
    return "".join(parts)
