"""Questions to hosts and servers, asked from the current network namespace.

Each module is a protocol: it asks with a deadline and returns what was answered as a value. It
judges nothing: what is good is said by `hostlab.checks`, which also carries the question into a
node. Nothing here starts a process, and nothing is imported while a question is asked, for a node's
files are not to be loaded.
"""
