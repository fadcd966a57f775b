#!/bin/sh
# expect: 2
iptables -P INPUT DROP
for port in 22 80; do
    iptables -A INPUT -p tcp --dport $port -j ACCEPT
