"""Networks as graphs: read from GraphML, DOT and lists of edges, generated, described. Pure."""
