#!/bin/sh
# expect: 0
for t in filter nat mangle; do iptables -t $t -F; iptables -t $t -X; done
WAN=eth0
