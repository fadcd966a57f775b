#!/bin/sh
# expect: 0
iptables -A INPUT -s 10.0.0.1 -j ACCEPT
iptables -A INPUT -s 10.0.0.2 -j ACCEPT
iptables -I INPUT 2 -s 10.0.0.3 -j DROP
iptables -R INPUT 1 -s 10.0.0.4 -j ACCEPT
iptables -D INPUT 3
iptables -E INPUT other 2>/dev/null || true
iptables -N old
iptables -E old new
iptables -A INPUT -j new
