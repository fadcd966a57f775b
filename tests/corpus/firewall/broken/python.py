#!/usr/bin/python3
# expect: 2 at 1: python3
print("iptables -A INPUT -j ACCEPT")
