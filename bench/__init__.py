"""How fast hostlab is, beside the least the kernel needs and beside its peers.

    python -m bench                       every benchmark, a table, ratios first
    python -m bench nodes exec            only these
    python -m bench firewall              only those whose names begin with firewall-
    python -m bench --list                what there is
    python -m bench --json                the same as JSON on standard output
    python -m bench --write               write docs/benchmarks.md anew
    python -m bench path --write          write what was measured into docs/benchmarks.md

Run it as root from the root of the repository, with hostlab importable (`make bench`). It needs
nothing but Python; a peer that is not installed is named with the way to install it, and is left
out. As an unprivileged user it measures less and says what is left out.

A *contender* is one way of doing a piece of work: `hostlab`, a `floor`, or a peer. Contenders take
turns within a round, so a machine that gets slower slows all of them; the numbers are medians over
the rounds, with the least and the greatest beside them. A *target* compares two contenders of one
benchmark and is met or missed; it is never adjusted to the result.

A floor is what the kernel charges for the same nodes without anything round them: one `clone3`
with all the namespaces and one rtnetlink message for the veth, from this very process (forked), in
Python through ctypes (`floors.py`). Everything is made in a user, mount and network namespace of
the benchmark's own; nothing of the machine's is touched, and the kernel takes all of it away when
the process that holds it ends, however it ends. Mininet and munet run in such namespaces too.

    floors.py     the floors: a lab of bare nodes           peers/        the others, one a module
    kernel.py     the few system calls that Python lacks    ours.py       the seam to hostlab
    rtnl.py       rtnetlink messages, as bytes              cases.py      what is compared, targets
    reach.py      does every node answer its neighbours?    measure.py    rounds, medians, ratios
    memory.py     proportional set size                     report.py     table, JSON, Markdown
    generate.py   descriptions of any size                  machine.py    where it was measured
    init_cases.py the same for the init           ours_init.py  the seam to hostlab's init
    flood.py      a job that writes much          jobs_engine.py events through the engine alone
    unit_loading.py  systemd's units, from files to jobs
    firewall_cases.py rulesets, beside nft and iptables   firewall_switch.py a stream meanwhile
    wire_cases.py impaired cables, beside what was asked
    fault_cases.py faults, beside the kernel's operations
    check_cases.py checks of many hosts, beside testinfra over ssh   page_cases.py their page
    network_cases.py whole networks with daemons   path_cases.py  what a way through routers carries
    drawings.py   a network as all can build it    convergence.py until all kernels have all routes
    cleaning.py   until what was there before is gone
"""
