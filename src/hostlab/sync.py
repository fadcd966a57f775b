"""The synchronous face of the library: `with hostlab.sync.Lab("lab.yaml") as lab: …`."""

from hostlab.api import Lab, Node

__all__ = ["Lab", "Node"]
