#!/bin/sh
# expect: 0
iptables -t nat -A PREROUTING -i eth1 -p tcp --dport 80 -j REDIRECT --to-ports 3128
iptables -t nat -A OUTPUT -p tcp --dport 80 -m owner ! --uid-owner 13 -j REDIRECT --to-ports 3128
iptables -t nat -A PREROUTING -i eth1 -p udp --dport 53 -j REDIRECT
