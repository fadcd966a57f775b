#!/bin/sh
# expect: 2 at 3: 2001:db8::1
iptables -A INPUT -s 2001:db8::1 -j DROP
