"""MovieLens as GroupLens publishes it: the archives, their raw files, and every value in them checked."""
