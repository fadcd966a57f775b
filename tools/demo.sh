# The demonstration: every command is shown and then run, as it could be typed.
set -u
lab=hello file=examples/hello.yaml
events=events events_file=examples/events.yaml
failover=failover failover_file=examples/failover/failover.yaml
report=build/demo-report

say() { printf '\n\033[1m%s\033[0m\n' "# $*"; }
show() { printf '\033[2m$\033[0m %s\n' "$*"; "$@"; }
[ -t 1 ] || {
    say() { printf '\n# %s\n' "$*"; }
    show() { printf '$ %s\n' "$*"; "$@"; }
}
stop() { echo "make demo: $*" >&2; exit 1; }

for each in "$lab" "$events" "$failover"; do
    if hostlab status "$each" >/dev/null 2>&1; then
        stop "a lab named $each is up already; take it down first: hostlab down $each"
    fi
done
trap 'hostlab down "$lab" >/dev/null 2>&1; hostlab down "$events" >/dev/null 2>&1
    hostlab down "$failover" >/dev/null 2>&1' EXIT

say "Three hosts, and what must hold between them, in ten lines."
show cat "$file"
say "Staged, and judged. Nothing but Python is needed on the machine."
show hostlab up "$file" || stop "the lab could not be staged; hostlab doctor tells what is missing"
show hostlab check "$lab" || stop "a check does not hold"
say "Look inside."
show hostlab graph "$lab" || stop "graph failed"
show hostlab exec "$lab/bob" -- getent hosts alice || stop "exec failed"
show hostlab status "$lab" || stop "status failed"
say "The server is stopped: the checks notice."
show hostlab job stop web --node "$lab/alice" || stop "job failed"
show hostlab check "$lab" && stop "the checks hold without a server"
show hostlab down "$lab" || stop "down failed"
say "Jobs that wait for events: one is emitted, and the monitor shows what follows."
show cat "$events_file"
show hostlab up "$events_file" || stop "the lab could not be staged"
show hostlab job emit I_AM_LOGGING_IN WHO=you --watch -n "$events/desk" || stop "emit failed"
show hostlab job list -n "$events/desk" || stop "list failed"
show hostlab job stop greeter -n "$events/desk" || stop "stop failed"
show hostlab job log tidy -n "$events/desk" || stop "log failed"
show hostlab down "$events" || stop "down failed"
say "A service address: a router sends it to the first of two servers that is healthy."
show cat "$failover_file"
show hostlab up --check "$failover_file" || stop "the lab could not be staged"
say "A client asks a hundred times a second. The cable of the one that serves is pulled, and mended."
show hostlab fault measure 'link-down web1:eth0' --from client --get http://10.9.9.9/ --follow \
    --settle 500ms || stop "nobody took over"
say "What must hold, judged once more, and as a page to look at and to send."
show hostlab check "$failover" --report "$report" || stop "a check does not hold"
say "Taken down, and the proof that nothing is left."
show hostlab down "$failover" || stop "down failed"
show hostlab audit || stop "something is left"
say "The page of the checks is in $report/index.html."
