"""What the plot scripts and the report share. Each module knows only those before it:

    command       errors, exit codes and the command line of a script
    declarations  what the program declares of parameters and figures, as results files carry it
    labels        what tells the cases of a table apart, and the words for it
    shown_text    text of any kind in pictures: escaped, wrapped, shortened, in fonts that have its characters

then hyperattn_results (the loader), plot_style (one look), the plots, and the report.
"""
