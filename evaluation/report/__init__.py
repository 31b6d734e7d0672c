"""Reports a comparison: its findings, tables and figures, as text, Markdown and one page of HTML."""
