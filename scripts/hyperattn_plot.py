#!/usr/bin/env python3
"""Pictures of results files, and the report: calls the plot of that name with the other arguments.

    hyperattn-plot PICTURE RESULTS.h5 … -o DIR
    hyperattn-plot report RESULTS.h5 … -o PAGE.html
    hyperattn-plot PICTURE --help
"""

import argparse
import importlib
import sys
from pathlib import Path

import hyperattn_results as hr

FOLDER = Path(__file__).resolve().parent


def pictures():
    """name -> the module that draws it."""
    names = sorted(path.stem for path in FOLDER.glob("plot_*.py") if path.stem != "plot_style")
    return {**{name.removeprefix("plot_"): name for name in names}, "report": "report"}


def run():
    modules = pictures()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=modules, help="what to draw")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of that plot")
    chosen = parser.parse_args()
    sys.argv = [f"hyperattn-plot {chosen.picture}", *chosen.arguments]
    importlib.import_module(modules[chosen.picture]).run()


if __name__ == "__main__":
    hr.main(run)
