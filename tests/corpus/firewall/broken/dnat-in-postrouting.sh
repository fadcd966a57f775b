#!/bin/sh
# expect: 2 at 3
iptables -t nat -A POSTROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.9
