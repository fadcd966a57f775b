#!/bin/zsh
# expect: 2
ports=(22 80
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
