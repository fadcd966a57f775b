"""Cables that are not perfect: how an impairment is brought about, and by what."""

from hostlab.lab.links.changing import LinkChange, changed
from hostlab.lab.links.impairing import Impairing

__all__ = ["Impairing", "LinkChange", "changed"]
