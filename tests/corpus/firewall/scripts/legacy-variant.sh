#!/bin/sh
# expect: 0
IPT=iptables-legacy
$IPT -P FORWARD DROP
$IPT -A FORWARD -i eth1 -o eth0 -j ACCEPT
$IPT -t nat -A POSTROUTING -o eth0 -j SNAT --to-source 203.0.113.10
ip6tables-legacy -A INPUT -p ipv6-icmp -j ACCEPT
