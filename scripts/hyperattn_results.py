"""The one loader of results files (docs/results-format.md) for the plots, the report and notebooks.

    results = load("results/quickstart/quickstart.h5")
    results.trials        # pandas table, one row per case and trial, text decoded, case parameters attached
    results.timings       # every repeat of every stage
    results.provenance    # machine, compiler, commit, ... as a dict

Errors are a ResultsError with one sentence and the exit code that a script should end with.
"""

from hyperattn_plots.cells import applies, cases_of, distinct, number
from hyperattn_plots.command import EXIT_CALL, EXIT_INPUT, ResultsError, arguments, main, write_output
from hyperattn_plots.figures import approximate, caption, choose_figure, error_figures, is_exact, machine_line, spread_note, with_trial_columns
from hyperattn_plots.labels import choices_among, label_of, method_columns, method_label, tell_apart, varying, with_first
from hyperattn_plots.loader import Results, file_names, finished, joined, load, load_all
from hyperattn_plots.problems import by_problem, facts, input_names, panels_of, problem_text, problem_varying

__all__ = [
    "EXIT_CALL", "EXIT_INPUT", "Results", "ResultsError", "applies", "approximate", "arguments", "by_problem", "caption", "cases_of",
    "choices_among", "choose_figure", "distinct", "error_figures", "facts", "file_names", "finished", "input_names", "is_exact", "joined",
    "label_of", "load", "load_all", "machine_line", "main", "method_columns", "method_label", "number", "panels_of", "problem_text",
    "problem_varying", "spread_note", "tell_apart", "varying", "with_first", "with_trial_columns", "write_output",
]  # fmt: skip
