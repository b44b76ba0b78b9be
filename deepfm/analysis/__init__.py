"""The model expert: what is wrong with a model and how to train it, by measurement."""
