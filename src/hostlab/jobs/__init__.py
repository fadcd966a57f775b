"""Jobs and events, Upstart's way, without any I/O and without a clock.

`Engine.handle(fact, now)` is the whole interface: facts in (`facts`), effects out (`effects`), and
`Engine.next_deadline()` for the time at which to tell it `Elapsed`. Whoever carries the effects
out must

- do them in their order, and tell `Spawned` of a process before anything else about it;
- name a process by its spawn number, and tell its end (`Exited`, `Signalled`) once, for the process
  that is watched: the parent that a daemon leaves behind is none;
- tell `Ready` when a job's `readiness` says so, and `Stopped` when SIGSTOP stopped a main process;
- tell `Emptied` after the end of a main process whose kill mode waits for its cgroup;
- store `capture()` before it lets the world see an effect, if the state is to survive a crash, and
  after `restore()` tell what became of the processes; one without a pid was never told `Spawned`.
"""

from hostlab.jobs.engine import Engine
from hostlab.jobs.snapshot import LATER_VERSION, capture, decode, encode, restore
from hostlab.jobs.states import Goal, State
from hostlab.jobs.waits import Wait, waits

__all__ = [
    "LATER_VERSION",
    "Engine",
    "Goal",
    "State",
    "Wait",
    "capture",
    "decode",
    "encode",
    "restore",
    "waits",
]
