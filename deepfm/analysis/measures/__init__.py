"""What can be measured of a model: a result a module, of plain data that say where they come from."""
