#!/bin/sh
# expect: 2 at 3
iptables -A FORWARD -o eth0 -j MASQUERADE
