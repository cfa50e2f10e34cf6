"""The page of the report: its pieces, its tables, and its style and script as files of their own."""
