#!/bin/zsh
# expect: 0
setopt extended_glob no_unset
typeset -A zone
zone=(wan eth0 lan eth1)
ports=(22 80 443)

for name interface in ${(kv)zone}; do
    iptables -N in-$name
    iptables -A INPUT -i $interface -j in-$name
done
iptables -A in-wan -p tcp -m multiport --dports ${(j:,:)ports} -j ACCEPT
iptables -A in-lan -j ACCEPT
iptables -P INPUT DROP
