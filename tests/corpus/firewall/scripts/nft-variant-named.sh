#!/bin/sh
# expect: 0
iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT
ip6tables-nft -A INPUT -p tcp --dport 22 -j ACCEPT
xtables-nft-multi iptables -A INPUT -p tcp --dport 80 -j ACCEPT
