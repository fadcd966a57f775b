#!/bin/sh
iptables -A INPUT -i "$WAN" -p tcp --dport 22 -j ACCEPT
