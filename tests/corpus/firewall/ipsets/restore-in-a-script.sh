#!/bin/sh
# expect: 0
{
    echo "create country hash:net family inet hashsize 4096 maxelem 131072"
    for a in 1 2 3 4 5; do for b in 0 64 128 192; do echo "add country 10.$a.$b.0/18"; done; done
    echo "create country-new hash:net family inet hashsize 4096 maxelem 131072"
    echo "swap country country-new"
    echo "destroy country-new"
} | ipset restore
iptables -A INPUT -m set --match-set country src -j DROP
