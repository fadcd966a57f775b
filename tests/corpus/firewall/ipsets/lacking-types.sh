#!/bin/sh
# expect: 3 without IP_SET_HASH_NETNET at 3: hash:net,net
ipset create pairs hash:net,net
iptables -A FORWARD -m set --match-set pairs src,dst -j ACCEPT
