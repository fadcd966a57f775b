#!/bin/sh
# expect: 0
# Safe to run twice: every rule is looked for first.
add() { iptables -C "$@" 2>/dev/null || iptables -A "$@"; }
chain() { iptables -n -L "$1" >/dev/null 2>&1 || iptables -N "$1"; }

chain web
add web -p tcp --dport 80 -j ACCEPT
add web -p tcp --dport 80 -j ACCEPT
add web -p tcp --dport 443 -j ACCEPT
add INPUT -j web
iptables -D INPUT -j nothing-of-the-kind 2>/dev/null || true
