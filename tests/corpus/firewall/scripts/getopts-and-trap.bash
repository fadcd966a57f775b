#!/bin/bash
# expect: 0
set -e
trap 'rm -f "$tmp"' EXIT
tmp=$(mktemp)
verbose=0
while getopts vh o; do
    case $o in v) verbose=1 ;; h) echo usage; exit 0 ;; esac
done
cat > "$tmp" <<'EOF'
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
EOF
iptables-restore --test < "$tmp"
iptables-restore < "$tmp"
[ $verbose = 1 ] && echo loaded || :
