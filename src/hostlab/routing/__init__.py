"""Routing daemons at work: their configurations are checked, their sessions and routes awaited."""
