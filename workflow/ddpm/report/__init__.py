"""From metrics and saved arrays to tables, figures and one page; nothing here samples or trains."""
