#!/bin/sh
# expect: 2 at 3: chain name
iptables -N a-name-that-is-longer-than-the-kernel-takes
