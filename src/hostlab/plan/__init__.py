"""Two states become ordered operations; the journal's format. Pure."""
