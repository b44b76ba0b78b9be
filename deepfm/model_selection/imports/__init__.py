"""Published tables of fine-tunes and of models, brought into the catalogue and the long tables."""

from deepfm.model_selection.imports.table import ImportedTable, import_table

__all__ = ["ImportedTable", "import_table"]
