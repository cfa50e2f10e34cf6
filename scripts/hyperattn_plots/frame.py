"""What stands around the panels, so that it never covers data: titles, legend and caption."""

from matplotlib.lines import Line2D

from hyperattn_plots import shown_text

LEGEND_WIDTH, TITLE_WIDTH, TICK_WIDTH = 90, 130, 60  # characters
MOST_PANELS = 36


def legend_handles(labels_and_styles):
    """Handles whose labels are set as they are; `finish` tells in the caption what a shortened one stands for."""
    names = shown_text.shortened_names(labels_and_styles, LEGEND_WIDTH)
    handles = []
    for label, style in labels_and_styles.items():
        # matplotlib leaves out what begins with an underscore.
        shown = " " + names[label] if names[label].startswith("_") else names[label]
        handles.append(Line2D([], [], label=shown_text.escaped(shown), **style))
        handles[-1].stands_for = (names[label], label)
    return handles


def set_titles(panels, titles):
    """Titles of panels beside each other: wrapped, and shortened so that they stay distinct."""
    names = shown_text.shortened_names(titles, TITLE_WIDTH)
    for axes, title in zip(panels, titles):
        width = axes.figure.get_size_inches()[0] / max(1, axes.get_subplotspec().get_gridspec().ncols)
        axes.set_title(shown_text.escaped("\n".join(shown_text.wrapped(names[title], int(width / 0.078)))), loc="left")


def tick_names(names):
    """Names for the ticks of bars: shortened so that they stay distinct."""
    short = shown_text.shortened_names(names, TICK_WIDTH)
    return [shown_text.escaped(short[name]) for name in names]


def pages(name, panels, most=MOST_PANELS):
    """(name, panels) for each picture: more panels than one holds make several, name_2, name_3, …"""
    for page, first in enumerate(range(0, len(panels), most)):
        yield (name if page == 0 else f"{name}_{page + 1}"), panels[first : first + most]


def finish(figure, title, caption="", handles=()):
    """Title above, legend and caption below the panels: the figure grows by what they need."""
    width, panels = figure.get_size_inches()
    title_lines = shown_text.wrapped(shown_text.shortened(title, 400), max(20, int(width / 0.105)))
    top = 0.1 + 0.21 * len(title_lines)
    shortened = [pair for pair in (getattr(handle, "stands_for", None) for handle in handles) if pair and pair[0] != pair[1]]
    caption = " ".join([caption, *(f"“{short}” is {whole_label}." for short, whole_label in shortened)])
    caption_lines = shown_text.wrapped(caption, max(30, int((width - 0.2) / 0.0655)))
    bottom = 0.08 + 0.145 * len(caption_lines)

    legend_height = 0.0
    if handles:
        legend = None
        renderer = figure.canvas.get_renderer()
        for columns in range(min(len(handles), 5), 0, -1):
            if legend is not None:
                legend.remove()
            legend = figure.legend(handles=list(handles), loc="lower center", ncol=columns, handlelength=2.8, columnspacing=1.6)
            box = legend.get_window_extent(renderer)
            if box.width / figure.dpi <= width - 0.2 or columns == 1:
                legend_height = box.height / figure.dpi
                break
    height = panels + top + bottom + legend_height
    figure.set_size_inches(width, height)
    figure.get_layout_engine().set(rect=(0, (bottom + legend_height) / height, 1, panels / height), h_pad=0.06, w_pad=0.06)
    if handles:
        legend.set_bbox_to_anchor((0.5, bottom / height), transform=figure.transFigure)
        legend.set_in_layout(False)
    figure.text(0.1 / width, 1 - 0.08 / height, shown_text.escaped("\n".join(title_lines)), fontsize=11.5, fontweight="bold", va="top", ha="left").set_in_layout(False)
    if caption_lines:
        figure.text(0.1 / width, 0.06 / height, shown_text.escaped("\n".join(caption_lines)), fontsize=7.5, color="#444444", va="bottom", ha="left", linespacing=1.35).set_in_layout(False)
