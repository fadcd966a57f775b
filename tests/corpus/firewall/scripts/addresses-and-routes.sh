#!/bin/sh
# expect: 0
# Does beside rules what a router's script does.
ip addr add 192.168.77.1/24 dev eth1
ip route add 192.168.78.0/24 via 10.0.0.254
ip rule add fwmark 7 table 107
ip route add default via 10.0.0.253 table 107
iptables -t mangle -A PREROUTING -i eth1 -p tcp --dport 443 -j MARK --set-mark 7
