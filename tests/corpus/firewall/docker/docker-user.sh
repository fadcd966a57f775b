#!/bin/sh
# expect: 0
# One's own rules beside Docker's: only DOCKER-USER is touched.
iptables -N DOCKER-USER 2>/dev/null
iptables -F DOCKER-USER
iptables -A DOCKER-USER -i eth0 -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
iptables -A DOCKER-USER -i eth0 -s 10.0.0.0/8 -j RETURN
iptables -A DOCKER-USER -i eth0 -j DROP
iptables -A DOCKER-USER -j RETURN
