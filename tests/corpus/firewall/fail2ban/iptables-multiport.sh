#!/bin/sh
# expect: 0
# Style: fail2ban's iptables-multiport action, start and two bans.
iptables -w -N f2b-sshd
iptables -w -A f2b-sshd -j RETURN
iptables -w -I INPUT -p tcp -m multiport --dports ssh -j f2b-sshd
iptables -w -n -L INPUT | grep -q 'f2b-sshd[ \t]'
iptables -w -I f2b-sshd 1 -s 192.0.2.66 -j REJECT --reject-with icmp-port-unreachable
iptables -w -I f2b-sshd 1 -s 198.51.100.99 -j REJECT --reject-with icmp-port-unreachable
