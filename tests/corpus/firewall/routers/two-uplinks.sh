#!/bin/sh
# expect: 0
# Connections stay on the uplink they began on.
iptables -t mangle -A PREROUTING -j CONNMARK --restore-mark
iptables -t mangle -A PREROUTING -m mark --mark 0 -i eth0 -j MARK --set-mark 1
iptables -t mangle -A PREROUTING -m mark --mark 0 -i ppp0 -j MARK --set-mark 2
iptables -t mangle -A PREROUTING -m mark --mark 0 -i eth1 -m statistic --mode nth --every 2 --packet 0 -j MARK --set-mark 1
iptables -t mangle -A POSTROUTING -j CONNMARK --save-mark
ip rule add fwmark 1 table 201 priority 1001
ip rule add fwmark 2 table 202 priority 1002
ip route add default via 203.0.113.1 table 201
iptables -t nat -A POSTROUTING -o ppp+ -j MASQUERADE
