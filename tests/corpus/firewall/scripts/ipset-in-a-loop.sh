#!/bin/sh
# expect: 0
ipset create blocked hash:net family inet hashsize 1024 maxelem 65536 -exist
ipset create blocked6 hash:net family inet6 -exist
ipset flush blocked
for net in 192.0.2.0/24 198.51.100.0/25 203.0.113.128/25; do
    ipset add blocked "$net" -exist
done
ipset add blocked6 2001:db8:bad::/48
iptables -I INPUT -m set --match-set blocked src -j DROP
ip6tables -I INPUT -m set --match-set blocked6 src -j DROP
