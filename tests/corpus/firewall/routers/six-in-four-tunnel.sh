#!/bin/sh
# expect: 3 without IPV6_SIT at 4: sit devices
# The tunnel itself needs a module that the machines we build on have not.
ip link add sit1 type sit local 203.0.113.10 remote 192.0.2.41
iptables -A INPUT -p 41 -s 192.0.2.41 -j ACCEPT
