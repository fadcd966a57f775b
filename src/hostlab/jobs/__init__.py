"""Jobs and events, Upstart's way, without any I/O and without a clock.

`engine.Engine.handle(fact, now)` is the whole interface: facts in (`facts`), effects out
(`effects`), and `Engine.next_deadline()` for the time at which to tell it `Elapsed`. Whoever
carries the effects out must

- do them in their order, and tell `Spawned` of a process before anything else about it;
- name a process by its spawn number, and tell its end (`Exited`, `Signalled`) once, for the process
  that is watched: the parent that a daemon leaves behind is none;
- tell `Ready` when a job's `readiness` says so, and `Stopped` when SIGSTOP stopped a main process;
- tell `Emptied` after the end of a main process whose kill mode waits for its cgroup;
- store `snapshot.capture()` before it lets the world see an effect, if the state is to survive a
  crash, and after `snapshot.restore()` tell what became of the processes; one without a pid was
  never told `Spawned`.
"""
