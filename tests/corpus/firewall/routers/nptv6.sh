#!/bin/sh
# expect: 0
ip6tables -t mangle -A POSTROUTING -o eth0 -s fd00:0:0:1::/64 -j SNPT --src-pfx fd00:0:0:1::/64 --dst-pfx 2001:db8:1:1::/64
ip6tables -t mangle -A PREROUTING -i eth0 -d 2001:db8:1:1::/64 -j DNPT --src-pfx 2001:db8:1:1::/64 --dst-pfx fd00:0:0:1::/64
