#!/bin/sh
# expect: 2 at 3
iptables -A INPUT -m nfacct --nfacct-name never-made
