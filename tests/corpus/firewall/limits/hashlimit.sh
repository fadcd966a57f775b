#!/bin/sh
# expect: 0
iptables -A INPUT -p tcp --dport 80 -m hashlimit --hashlimit-name web --hashlimit-upto 50/sec --hashlimit-burst 100 --hashlimit-mode srcip --hashlimit-htable-expire 30000 -j ACCEPT
iptables -A INPUT -p udp --dport 53 -m hashlimit --hashlimit-name dns --hashlimit-above 20/sec --hashlimit-mode srcip,dstport --hashlimit-srcmask 24 -j DROP
iptables -A INPUT -m hashlimit --hashlimit-name bytes --hashlimit-above 512kb/s --hashlimit-mode srcip -j DROP
