"""Waiting for something of a running node, by the names that NixOS's test driver has for it.

A wait ends at the event that it is about, not at the next look of a clock: the node's init tells of
its jobs over the control socket (`monitor`), inotify(7) of files and logs, the kernel of sockets
that are destroyed (sock_diag(7)). Of listen(2) it tells nobody, so a port that is to open is looked
at every 3 ms, by a netlink socket of the node's that the caller holds. Whether a command would now
end otherwise is known by running it.

Each wait also watches for the end of hope: the node that dies, the job that fails, the node in
which nothing runs that could still do it. Then it fails at once, with the log's last lines.
"""
