"""From the engine's word that a process shall start to the process, with its cgroup and limits."""
