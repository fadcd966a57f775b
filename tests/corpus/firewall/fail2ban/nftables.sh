#!/bin/sh
# expect: 0
# Style: fail2ban's nftables action.
nft add table inet f2b-table
nft -- add chain inet f2b-table f2b-chain \{ type filter hook input priority -1 \; \}
nft add set inet f2b-table addr-set-sshd \{ type ipv4_addr\; \}
nft add rule inet f2b-table f2b-chain tcp dport \{ 22 \} ip saddr @addr-set-sshd reject
nft add element inet f2b-table addr-set-sshd \{ 192.0.2.66 \}
nft add element inet f2b-table addr-set-sshd \{ 198.51.100.99 \}
