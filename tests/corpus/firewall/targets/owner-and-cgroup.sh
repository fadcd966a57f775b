#!/bin/sh
# expect: 0
iptables -A OUTPUT -m owner --uid-owner 0 -j ACCEPT
iptables -A OUTPUT -m owner --gid-owner 33 -p tcp --dport 25 -j REJECT
iptables -A OUTPUT -m owner --socket-exists -j RETURN
iptables -A OUTPUT -m cgroup --cgroup 1048577 -j DROP
