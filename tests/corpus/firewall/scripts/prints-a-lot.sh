#!/bin/sh
# expect: 0
echo "Starting firewall..."
iptables -A INPUT -j ACCEPT
iptables -L -n -v
iptables-save
echo "done." >&2
