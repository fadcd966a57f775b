# The anycast lab failing over: every command is shown and then run, as it could be typed.
set -u
lab=anycast-tuned file=examples/anycast/tuned.yaml
address='http://[2001:db8:30::3]/'
drawings=$(mktemp -d) || exit 3

say() { printf '\n\033[1m%s\033[0m\n' "# $*"; }
show() { printf '\033[2m$\033[0m %s\n' "$*"; "$@"; }
[ -t 1 ] || {
    say() { printf '\n# %s\n' "$*"; }
    show() { printf '$ %s\n' "$*"; "$@"; }
}
stop() { echo "make demo-anycast: $*" >&2; exit 1; }
draw() { show python tools/anycast_drawing.py "$lab" --svg "$drawings/$1.svg" || stop "the lab cannot be drawn"; }
measure() {
    show hostlab fault measure "$1" --lab "$lab" --from client --get "$address" --rate "$2" --timeout 5s --first w1 --then w3 ||
        stop "the address did not answer again"
}

if hostlab status "$lab" >/dev/null 2>&1; then
    stop "a lab named $lab is up already; take it down first: hostlab down $lab"
fi
trap 'hostlab down "$lab" >/dev/null 2>&1' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Routers, two route servers and three web nodes, with BIRD, FRR, ExaBGP and nginx, each in a node of its own."
show hostlab up --wait 300 "$file" || stop "the lab could not be staged"
show hostlab check "$lab" || stop "a check does not hold"
say "Who serves which address, and with which metrics the web nodes announce them."
draw before
say "w1 freezes. What the client sees, and who serves then:"
show hostlab fault inject --lab "$lab" node-frozen w1 || stop "inject failed"
hostlab exec "$lab/client" -- sh -c 'until [ "$(curl -s --max-time 1 "$1")" = w3 ]; do :; done' sh "$address"
draw after
show hostlab fault clear --lab "$lab" || stop "clear failed"
show hostlab check "$lab" || stop "a check does not hold"
say "How long that takes; then nginx killed, and a node that is drained under 500 requests a second."
measure "node-frozen w1" 100
measure "job-killed w1/nginx" 100
measure "file-present w1 path=/run/drain" 500
show hostlab down "$lab" || stop "down failed"
# Others may run labs here, too, and what they leave is not this one's.
if left=$(show hostlab audit); then
    echo "$left"
elif echo "$left" | grep -qw -e "$lab"; then
    echo "$left"
    stop "something was left behind"
else
    echo "$left" | sed -n 1p
    echo "nothing of $lab is left; of other labs there is something"
fi
say "The drawings, before and after: $drawings"
