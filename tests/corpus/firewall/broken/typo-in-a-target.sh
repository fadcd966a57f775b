#!/bin/sh
# expect: 2 at 4: ACCEPTT
iptables -P INPUT DROP
iptables -A INPUT -i lo -j ACCEPTT
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
