#!/bin/sh
# expect: 0
# nft called a line at a time.
NFT=/usr/sbin/nft
$NFT flush ruleset
$NFT add table inet fw
$NFT 'add chain inet fw input { type filter hook input priority 0; policy drop; }'
$NFT add chain inet fw ssh
$NFT add rule inet fw input iif lo accept
$NFT add rule inet fw input ct state established,related accept
$NFT add rule inet fw input tcp dport 22 jump ssh
$NFT add rule inet fw ssh ip saddr '{' 10.0.0.0/8, 192.168.0.0/16 '}' accept
