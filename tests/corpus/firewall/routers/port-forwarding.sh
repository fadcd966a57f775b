#!/bin/sh
# expect: 0
WAN=eth0 LAN=eth1 WEB=10.0.0.9
echo 1 > /proc/sys/net/ipv4/ip_forward
iptables -P FORWARD DROP
iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables -A FORWARD -i $LAN -o $WAN -j ACCEPT
for port in 80 443; do
    iptables -t nat -A PREROUTING -i $WAN -p tcp --dport $port -j DNAT --to-destination $WEB
    iptables -A FORWARD -i $WAN -o $LAN -d $WEB -p tcp --dport $port -m conntrack --ctstate NEW -j ACCEPT
done
iptables -t nat -A PREROUTING -i $WAN -p tcp --dport 5000:5010 -j DNAT --to-destination $WEB:6000-6010
iptables -t nat -A POSTROUTING -o $WAN -j MASQUERADE
