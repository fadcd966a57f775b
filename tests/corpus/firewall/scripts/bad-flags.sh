#!/bin/sh
# expect: 0
# The list of "illegal TCP flags" that every guide has.
BAD=badflags
iptables -N $BAD
iptables -A $BAD -p tcp --tcp-flags ALL NONE -j DROP
iptables -A $BAD -p tcp --tcp-flags ALL ALL -j DROP
iptables -A $BAD -p tcp --tcp-flags ALL FIN,URG,PSH -j DROP
iptables -A $BAD -p tcp --tcp-flags SYN,RST SYN,RST -j DROP
iptables -A $BAD -p tcp --tcp-flags SYN,FIN SYN,FIN -j DROP
iptables -A $BAD -p tcp ! --syn -m conntrack --ctstate NEW -j DROP
iptables -A $BAD -f -j DROP
iptables -A INPUT -p tcp -j $BAD
