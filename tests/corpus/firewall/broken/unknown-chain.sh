#!/bin/sh
# expect: 2 at 3
iptables -A WEB -p tcp --dport 80 -j ACCEPT
iptables -N WEB
