"""Walk-forward experiments on the engine: folds, seeds, predictions, tuning."""
