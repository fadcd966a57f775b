"""hostlab: a host is a description; stage it, run it, check it.

`hostlab.Lab` is for asyncio (`aio`), `hostlab.sync.Lab` for everything else (`api`).
"""

from __future__ import annotations

from hostlab.version import __version__

TYPE_CHECKING = False
"""As `typing` has it, which a holder need not load (`init.standalone.program`)."""
if TYPE_CHECKING:
    from hostlab.aio import AsyncLab as Lab

__all__ = ["Lab", "__version__"]


def __getattr__(name: str) -> object:
    """Imported when first asked for: the command line starts without the library's weight."""
    if name == "Lab":
        from hostlab.aio import AsyncLab

        return AsyncLab
    raise AttributeError(name)
