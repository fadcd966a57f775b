"""Published ports: the machine's ports that lead into nodes.

The command line makes the sockets (`open_sockets`), whoever holds the publisher's control socket
tells it what to do (`PublisherClient`). The process that relays runs `publisher.serve`, which is
not imported here, so that the command line does not pay for it.
"""

from hostlab.lab.publish.client import PublisherClient
from hostlab.lab.publish.messages import Answer, Protocol, Published, PublishStat, Target
from hostlab.lab.publish.sockets import PublishedSocket, machine_addresses, open_sockets

__all__ = [
    "Answer",
    "Protocol",
    "PublishStat",
    "Published",
    "PublishedSocket",
    "PublisherClient",
    "Target",
    "machine_addresses",
    "open_sockets",
]
