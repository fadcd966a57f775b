#!/bin/sh
# expect: 2 at 4: not found
iptables -P INPUT DROP
iptabels -A INPUT -p tcp --dport 22 -j ACCEPT
