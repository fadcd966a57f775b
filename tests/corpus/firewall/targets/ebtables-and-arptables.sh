#!/bin/sh
# expect: 0
ebtables-nft -A FORWARD -p ARP -j ACCEPT
ebtables-nft -A FORWARD -s 02:00:00:00:00:01 -j DROP
ebtables-nft -P FORWARD ACCEPT
arptables-nft -A INPUT -s 10.0.0.99 -j DROP
