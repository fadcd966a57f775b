"""What the user writes, as values, and the loaders that read it. Pure."""
