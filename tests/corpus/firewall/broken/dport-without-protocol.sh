#!/bin/sh
# expect: 2 at 3: --dport
iptables -A INPUT --dport 22 -j ACCEPT
