"""Reports: documents made of text, tables and plots, written as one HTML file, Markdown or terminal text.

Importing this package loads no plotting, template or terminal library; each is loaded when it is used.
"""

from deepfm.reporting.curves import calibration_points, roc_points
from deepfm.reporting.document import Block, Code, Document, Figure, Note, Paragraph, Section, TableBlock
from deepfm.reporting.files import refuse_report_name, write_document
from deepfm.reporting.html import render_html, write_html
from deepfm.reporting.markdown import render_markdown, write_markdown
from deepfm.reporting.plots import (
    bar_plot,
    calibration_plot,
    heat_map,
    histogram_plot,
    line_plot,
    roc_plot,
)
from deepfm.reporting.tables import Cell, Column, Table, print_table

__all__ = [
    "Block",
    "Cell",
    "Code",
    "Column",
    "Document",
    "Figure",
    "Note",
    "Paragraph",
    "Section",
    "Table",
    "TableBlock",
    "bar_plot",
    "calibration_plot",
    "calibration_points",
    "heat_map",
    "histogram_plot",
    "line_plot",
    "print_table",
    "refuse_report_name",
    "render_html",
    "render_markdown",
    "roc_plot",
    "roc_points",
    "write_document",
    "write_html",
    "write_markdown",
]
