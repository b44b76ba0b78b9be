"""Panels of prices: files, what is wrong in them, and generated ones with planted signals."""
