"""What the plot scripts and the report share. Each module knows only those above it, and no script
(tests/scripts/test_imports.py reads this list):

    command             errors, exit codes and the command line of a script
    declarations        what the program declares of parameters and figures, as results files carry it
    cells               cells of tables: which hold a value, and how values are written
    labels              what tells the methods of a table apart, and the words for it
    problems            what tells its problems apart, and what is said once
    tables              tables and attributes of a results file
    parameters          the parameters of cases as columns
    loader              results files, one or several
    figures             rows, figure and caption of a picture
    documents           tables of the documents that are made from results
    shown_text          text of any kind in pictures: escaped, wrapped, shortened, in fonts that have its characters
    looks               colours, markers, dashes, fonts, names of axes
    axes                panels, scales and ticks
    lines               lines, bands and styles of the methods
    frame               title, legend and caption around the panels
    picture_files       PNG and SVG
    page.html           pieces of the report's page
    page.notes          what the report says around pictures and tables
    page.tables         the report's tables

Of the scripts, hyperattn_results (to read results) and plot_style (to draw) gather these for the plots; compare_field
and the report know plots, and nothing knows those two but hyperattn_plot, which calls scripts by name.
"""
