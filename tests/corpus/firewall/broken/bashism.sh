#!/bin/sh
# expect: 2 at 3
ports=(22 80)
for p in "${ports[@]}"; do iptables -A INPUT -p tcp --dport $p -j ACCEPT; done
