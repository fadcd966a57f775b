#!/bin/sh
# expect: 0
/sbin/modprobe ip_tables
/sbin/modprobe nf_conntrack_ftp
modprobe -q ip_conntrack_irc
depmod -a
iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp
iptables -A INPUT -m conntrack --ctstate RELATED -m helper --helper ftp -j ACCEPT
