"""The command that follows what happens in the inits of a lab."""

from __future__ import annotations
