#!/bin/sh
# expect: 2 at 4
iptables -A INPUT -j ACCEPT
iptables-save > /etc/iptables.rules
