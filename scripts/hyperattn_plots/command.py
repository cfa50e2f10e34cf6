"""The command line of a script: its arguments, its errors (one sentence and an exit code), and what it writes."""

import argparse
import os
import shutil
import sys
from pathlib import Path

EXIT_CALL = 2  # the call is wrong
EXIT_INPUT = 3  # a file is missing, unreadable or not a results file

READ = []  # the results files that were loaded, which no output may destroy


class ResultsError(Exception):
    def __init__(self, message, exit_code=EXIT_INPUT):
        super().__init__(message)
        self.exit_code = exit_code


def write_output(path, data):
    """Writes bytes where a path leads: whole or not at all, through symbolic links, with the permissions that a file
    there has, and never over a results file that was read."""
    path = Path(path)
    for read in READ:
        if path.exists() and read.exists() and path.samefile(read):
            raise ResultsError(f"{path}: is the results file {read}, which is read; name another output.", EXIT_CALL)
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():  # a pipe or a device
        place.write_bytes(data)
        return
    partial = place.with_name(place.name + ".partial")
    try:
        partial.write_bytes(data)
        if place.exists():
            shutil.copymode(place, partial)
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def arguments(description, **options):
    """The command line that all plots share: RESULTS.h5 … -o DIR [--title TEXT]."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS.h5", help="results files of hyperattn run")
    parser.add_argument("-o", "--output", default=".", metavar="DIR", help="folder for the pictures (default: .)")
    parser.add_argument("--title", help="title in place of the default one")
    for name, option in options.items():
        parser.add_argument("--" + name.replace("_", "-"), **option)
    return parser


def main(run):
    """Runs a script's main function and turns its errors into one sentence and an exit code."""
    try:
        run()
    except ResultsError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(1)
