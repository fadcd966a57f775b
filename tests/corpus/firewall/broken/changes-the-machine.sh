#!/bin/sh
# expect: 2 at 4: systemctl disable ufw
iptables -A INPUT -j ACCEPT
systemctl disable ufw
