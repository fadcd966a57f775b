#!/bin/sh
# expect: 0
# What the script itself allows to fail is no fault of it.
iptables -X NEVER 2>/dev/null
iptables -D INPUT -j DROP 2>/dev/null || :
if iptables -C INPUT -j DROP 2>/dev/null; then iptables -D INPUT -j DROP; fi
iptables -A INPUT -j ACCEPT
