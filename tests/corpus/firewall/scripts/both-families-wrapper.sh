#!/bin/sh
# expect: 0
both() { iptables "$@" && ip6tables "$@"; }
both -P INPUT DROP
both -A INPUT -i lo -j ACCEPT
both -A INPUT -p tcp --dport 22 -j ACCEPT
both -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
both -A INPUT -m pkttype --pkt-type broadcast -j DROP
