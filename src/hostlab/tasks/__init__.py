"""Tasks: programs that run on, with nobody who watches them; the meaning is lanĉo's.

A *task* has a name in a *task namespace* that was made once, by root for some user or by a user for
himself. It runs exactly while one process of it lives, however far that has forked away. How the
processes of a task are known (`Tracking`) is settled when the namespace is made:

v2      each task is a cgroup v2; `cgroup.kill` ends it whole, `cgroup.events` tells of its end
v1      each task is a cgroup in the v1 hierarchies; a user may enter those that root gave to him,
        which v2 refuses to whoever comes from outside (cgroups(7), "Delegation containment")
keeper  there is no cgroup: a process that is a child subreaper has all of a task below itself

In the first two no process of hostlab stays, but for a task with an exit hook: that has a keeper
too. What is on disk is `places`; how one task is changed by several callers at once, `records`.
"""
