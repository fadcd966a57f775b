#!/bin/sh
# expect: 3 at 5
# Of a package of its own.
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
iptables -A INPUT -m geoip --src-cc XX -j DROP
iptables -A INPUT -p tcp --dport 23 -j TARPIT
