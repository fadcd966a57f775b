"""What a keeper is while its task runs: a program of a few lines, so that it costs little.

It is the child subreaper above the task. So every process of the task that loses its parent becomes
its child, and it has no child left when the task has ended. Then it becomes another program, which
clears away and runs the exit hook. It is run by its path with `-I -S`, and imports nothing else.
"""

import os
import sys

if __name__ == "__main__":
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    os.execv(sys.argv[1], sys.argv[1:])
