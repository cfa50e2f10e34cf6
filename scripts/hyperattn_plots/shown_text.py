"""Text of any kind in pictures: set as it is (a dollar sign begins no formula), wrapped and shortened by the width that it
takes, in fonts that have its characters."""

import contextlib
import unicodedata
import warnings
from pathlib import Path

import matplotlib.font_manager

# Where the first font lacks a character, the next one that is installed is asked.
FONTS = ["DejaVu Sans", "Droid Sans Fallback", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "IPAGothic", "Unifont"]


FONT_FILES = ("DroidSansFallback", "NotoSansCJK", "wqy-", "ipag", "unifont")


def installed_fonts():
    """Those of FONTS that are there; the first comes with matplotlib, whose list of the others may be older than they."""
    manager = matplotlib.font_manager.fontManager
    known = {font.name for font in manager.ttflist}
    if known.isdisjoint(FONTS[1:]):
        for path in matplotlib.font_manager.findSystemFonts():
            if Path(path).name.startswith(FONT_FILES):
                with contextlib.suppress(OSError, RuntimeError):
                    manager.addfont(path)
        known = {font.name for font in manager.ttflist}
    return [FONTS[0]] + [font for font in FONTS[1:] if font in known]


def ignore_missing_characters():
    """A character that no font has becomes a box; a warning for each would hide what matters."""
    warnings.filterwarnings("ignore", message="Glyph .* missing from current font")


def escaped(text):
    """Text that matplotlib sets as it is."""
    return str(text).replace("$", r"\$")


def character_width(character):
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def text_width(text):
    """In units of a narrow character."""
    return sum(map(character_width, text))


def shortened(text, width):
    """The beginning and the end of the text around '…', in at most `width`."""
    if text_width(text) <= width:
        return text
    half = (width - 1) // 2
    return take(text, half) + "…" + take(text[::-1], half)[::-1]


def take(text, width):
    taken = ""
    for character in text:
        width -= character_width(character)
        if width < 0:
            break
        taken += character
    return taken


def shortened_names(names, width):
    """name -> a name of at most `width` that no other has."""
    found, taken = {}, set()
    for name in dict.fromkeys(names):
        text, count = shortened(name, width), 1
        while text in taken:
            count += 1
            text = f"{shortened(name, width - 5)} #{count}"
        taken.add(text)
        found[name] = text
    return found


def wrapped(text, width):
    """Lines of at most `width`, broken between words, or within one that is longer."""
    lines, line = [], ""
    for piece in pieces(text, width):
        joined = f"{line} {piece}" if line else piece
        if text_width(joined) <= width:
            line = joined
            continue
        lines.append(line)
        line = piece
    return lines + [line] if line else lines


def pieces(text, width):
    for piece in text.split():
        while text_width(piece) > width:
            head = take(piece, width)
            yield head
            piece = piece[len(head):]
        if piece:
            yield piece
