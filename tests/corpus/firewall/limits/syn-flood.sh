#!/bin/sh
# expect: 0
iptables -N syn-flood
iptables -A syn-flood -m limit --limit 25/s --limit-burst 50 -j RETURN
iptables -A syn-flood -j DROP
iptables -A INPUT -p tcp --syn -j syn-flood
iptables -A INPUT -p icmp --icmp-type echo-request -m limit --limit 1/s -j ACCEPT
