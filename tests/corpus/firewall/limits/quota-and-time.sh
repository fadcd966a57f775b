#!/bin/sh
# expect: 0
iptables -A FORWARD -s 10.0.0.50 -m quota --quota 1073741824 -j ACCEPT
iptables -A FORWARD -s 10.0.0.50 -m time --timestart 08:00 --timestop 18:00 --weekdays Mon,Tue,Wed,Thu,Fri -j DROP
iptables -A FORWARD -m connbytes --connbytes 10000000: --connbytes-dir both --connbytes-mode bytes -j DROP
iptables -A FORWARD -m length --length 0:40 -j ACCEPT
