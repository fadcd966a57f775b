#!/bin/sh
# expect: 0
# Without SELinux there is no context to give; the table itself is there.
iptables -t security -N marked
iptables -t security -A INPUT -p tcp --dport 80 -j marked
iptables -t security -A marked -j CONNSECMARK --restore
