"""Any table: files and frames read, columns described, encoders fitted, rows encoded."""
