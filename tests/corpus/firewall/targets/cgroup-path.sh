#!/bin/sh
# expect: 2 at 4
# The path must be there when the rule is made.
iptables -A OUTPUT -m cgroup --path user.slice/nobody.slice -j DROP
