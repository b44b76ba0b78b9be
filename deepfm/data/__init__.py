"""Data: schema, encoders, splits, negatives and the adapters that bring raw files into this form."""
