"""Ways in from other libraries; import its packages by name, this one loads nothing."""
