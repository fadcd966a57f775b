#!/bin/sh
# expect: 0
ipset -exist create f2b-nginx hash:ip timeout 600 maxelem 65536
iptables -w -I INPUT -p tcp -m multiport --dports http,https -m set --match-set f2b-nginx src -j REJECT --reject-with icmp-port-unreachable
ipset -exist add f2b-nginx 192.0.2.66 timeout 600
ipset -exist create f2b-nginx6 hash:ip timeout 600 family inet6
ip6tables -w -I INPUT -p tcp -m multiport --dports http,https -m set --match-set f2b-nginx6 src -j REJECT --reject-with icmp6-port-unreachable
