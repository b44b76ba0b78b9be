"""The report's sections, each from what was measured to text, tables and plots."""
