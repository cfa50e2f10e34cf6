"""Pictures as PNG and SVG; in SVG, points show their text under the mouse."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from hyperattn_plots.command import write_output
from hyperattn_plots.looks import plt

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


def svg_text(figure, prefix=""):
    """The picture as SVG, with the texts of `hover` as titles; `prefix` keeps the ids of several pictures on one page
    apart."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=bool(prefix))
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        texts = getattr(figure, "hover_texts", {}).get(element.get("id"))
        if texts:
            add_titles(element, texts)
    if prefix:
        add_prefix(root, prefix)
    return ElementTree.tostring(root, encoding="unicode")


def add_titles(element, texts):
    # matplotlib writes markers as uses of one shape, or as a path each; a bar is one path.
    shapes = {path for definitions in element.iter(f"{{{SVG}}}defs") for path in definitions.iter(f"{{{SVG}}}path")}
    uses = list(element.iter(f"{{{SVG}}}use"))
    targets = uses or [path for path in element.iter(f"{{{SVG}}}path") if path not in shapes]
    if len(targets) != len(texts):  # points that were clipped away: better no text than a wrong one
        return
    for target, text in zip(targets, texts):
        title = ElementTree.SubElement(target, f"{{{SVG}}}title")
        title.text = text
        target.set("class", "point")


def add_prefix(root, prefix):
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, prefix + value)
            elif key.endswith("href") and value.startswith("#"):
                element.set(key, "#" + prefix + value[1:])
            elif "url(#" in value:
                element.set(key, value.replace("url(#", "url(#" + prefix))


def save(figure, directory, name):
    """Writes NAME.png and NAME.svg, prints their paths and closes the figure."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    png, svg = directory / f"{name}.png", directory / f"{name}.svg"
    image = io.BytesIO()
    figure.savefig(image, dpi=150, format="png")
    write_output(png, image.getvalue())
    write_output(svg, svg_text(figure).encode("utf-8"))
    print(png)
    print(svg)
    plt.close(figure)


def save_pictures(pictures, directory):
    """Saves what a script's `pictures` yields: (name, figure)."""
    for name, figure in pictures:
        save(figure, directory, name)
