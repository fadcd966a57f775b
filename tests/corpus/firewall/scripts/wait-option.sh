#!/bin/sh
# expect: 0
iptables -w 5 -A INPUT -p tcp --dport 22 -j ACCEPT
iptables --wait --append INPUT --protocol tcp --destination-port 80 --jump ACCEPT
ip6tables -w -I INPUT 1 -p tcp --dport 22 -j ACCEPT
iptables --table nat --new-chain EXTRA
iptables --table nat --append POSTROUTING --jump EXTRA
