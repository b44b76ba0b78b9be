"""The engine: tensors and runs, not clicks. Import its modules by name; the package itself loads nothing."""
