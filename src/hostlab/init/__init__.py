"""What runs a node: the holder, the supervisor, and how they are spoken to."""
