#!/bin/sh
# expect: 0
IPT=/sbin/iptables
IP6T=/sbin/ip6tables
WAN=eth0
LAN=eth1
LAN_NET=10.0.0.0/24

for t in $IPT $IP6T; do
    $t -F
    $t -X
    $t -P INPUT DROP
    $t -P FORWARD DROP
    $t -A INPUT -i lo -j ACCEPT
    $t -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
done
$IPT -A FORWARD -i $LAN -o $WAN -s $LAN_NET -j ACCEPT
$IPT -t nat -A POSTROUTING -o $WAN -s $LAN_NET -j MASQUERADE
$IP6T -A INPUT -p ipv6-icmp -j ACCEPT
