"""A look for the future in features, labels and folds."""
