#!/bin/sh
# expect: 0
ipset create scanners hash:ip timeout 3600
ipset create web hash:ip,port
ipset add web 10.0.0.9,80
iptables -A INPUT -p tcp --dport 23 -j SET --add-set scanners src --exist --timeout 600
iptables -A INPUT -m set --match-set scanners src -j DROP
iptables -A FORWARD -m set --match-set web dst,dst -j ACCEPT
iptables -A FORWARD -m set ! --match-set web dst,dst -j RETURN
iptables -A INPUT -p tcp --dport 24 -j SET --del-set scanners src
