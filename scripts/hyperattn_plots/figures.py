"""What a picture shows of the trials: which rows, which figure, and the paragraph below."""

from hyperattn_plots.command import EXIT_CALL, ResultsError
from hyperattn_plots.declarations import DECLARED
from hyperattn_plots.problems import facts


def is_exact(trials):
    """Which rows are of backends without an error to measure."""
    return trials["backend"].isin(DECLARED.exact_backends())


def error_figures():
    """The columns that say how wrong a result is, the ones that most readers want first."""
    return DECLARED.error_figures()


def approximate(trials):
    """The rows of approximate backends; all rows where there are none."""
    rows = trials[~is_exact(trials)]
    return rows if len(rows) else trials


def choose_figure(trials, wanted=None):
    """The error column to plot: the wanted one, else the first of the error figures that holds a value."""
    if wanted:
        if wanted not in trials or trials[wanted].dtype.kind not in "fiu":
            raise ResultsError(f"--figure {wanted}: the results have no such column of numbers.", EXIT_CALL)
        return wanted
    for figure in error_figures():
        if figure in trials and trials[figure].notna().any():
            return figure
    raise ResultsError("the results hold no error figure: run with the measure spectral_error.")


SPREAD_NOTE = "Lines: median over trials; bands and whiskers: smallest to largest."


def spread_note(trials):
    return SPREAD_NOTE if trials["trial"].nunique() > 1 else ""


def with_trial_columns(frame, trials):
    """Rows of /heads, /levels or /timings with the columns of their trial beside them."""
    if frame.empty or trials.empty:
        return frame
    keys = [key for key in ("file", "case_id", "trial") if key in frame and key in trials]
    extra = [column for column in trials.columns if column not in frame.columns or column in keys]
    return frame.merge(trials[extra], on=keys, how="left")


def machine_line(results):
    """'AMD EPYC, avx512, 2 threads, commit 1a2b3c4': where and with what it ran, from the provenance."""
    parts = []
    for provenance in (session for one in results for session in one.sessions):
        words = []
        for key in ("processor", "instruction_set"):
            if provenance.get(key):
                words.append(" ".join(str(provenance[key]).split()))
        threads = provenance.get("threads")
        if threads is not None:
            words.append(f"{threads} thread{'' if str(threads) == '1' else 's'}")
        if provenance.get("commit"):
            words.append(f"commit {str(provenance['commit'])[:10]}")
        line = ", ".join(words)
        if line and line not in parts:
            parts.append(line)
    return "; ".join(parts)


def caption(frame, results, note="", skip=()):
    """One paragraph on what is held fixed (n, d, b, m, buckets, heads, trials) and on which machine it ran."""
    held = facts(frame, skip)
    lines = [held + "."] if held else []
    if note:
        lines.append(note.strip())
    machine = machine_line(results)
    if machine:
        lines.append(machine + ".")
    return " ".join(lines)
