#!/bin/sh
# expect: 0
# Rules from a table, read line by line.
while read -r proto port source; do
    case "$proto" in ''|\#*) continue ;; esac
    iptables -A INPUT -p "$proto" --dport "$port" -s "$source" -j ACCEPT
done <<TABLE
# proto port source
tcp 22 10.0.0.0/8
tcp 3306 10.0.0.5
udp 161 192.168.0.0/16

tcp 9100 10.0.0.7
TABLE
