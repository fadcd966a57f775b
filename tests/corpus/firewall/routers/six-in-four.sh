#!/bin/sh
# expect: 0
# A tunnel broker's IPv6 over protocol 41.
iptables -A INPUT -p 41 -s 192.0.2.41 -j ACCEPT
iptables -A OUTPUT -p ipv6 -d 192.0.2.41 -j ACCEPT
ip6tables -P FORWARD DROP
ip6tables -A FORWARD -i eth1 -o sit1 -s 2001:db8:1::/64 -j ACCEPT
ip6tables -A FORWARD -i sit1 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
ip6tables -A FORWARD -p icmpv6 --icmpv6-type packet-too-big -j ACCEPT
ip6tables -t mangle -A FORWARD -o sit1 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1420
