# expect: 0
# The notebook's: what only the real machine does stands behind `main`.
main ip link set dev eth1 txqueuelen 1000
main modprobe nf_nat_ftp
iptables -A FORWARD -i eth1 -j ACCEPT
main systemctl restart fail2ban
