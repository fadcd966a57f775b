#!/bin/sh
# expect: 0
( iptables -N sub; iptables -A sub -j RETURN )
seq 1 4 | while read -r n; do iptables -A sub -s 10.1.$n.0/24 -j DROP; done
printf '%s\n' 192.0.2.1 192.0.2.2 | xargs -n 1 iptables -A sub -j DROP -s
before=$(iptables -S sub | wc -l)
[ "$before" -gt 3 ] && iptables -A INPUT -j sub
