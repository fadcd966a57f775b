#!/bin/sh
# expect: 2 at 5
set -e
iptables -P INPUT DROP
iptables -A INPUT -p tpc --dport 22 -j ACCEPT
iptables -A INPUT -i lo -j ACCEPT
