#!/bin/bash
# expect: 0
set -euo pipefail

readonly WAN=eth0
declare -A SERVICES=([ssh]=22 [http]=80 [https]=443)

ipt() { iptables -w "$@"; }

open_port() {
    local proto=$1 port=$2
    ipt -A INPUT -i "$WAN" -p "$proto" --dport "$port" -m comment --comment "open $port" -j ACCEPT
}

ipt -N LOGDROP
ipt -A LOGDROP -m limit --limit 5/min -j LOG --log-prefix "dropped: "
ipt -A LOGDROP -j DROP
for name in ssh http https; do
    open_port tcp "${SERVICES[$name]}"
done
ipt -A INPUT -i "$WAN" -j LOGDROP
