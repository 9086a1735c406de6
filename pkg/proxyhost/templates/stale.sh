#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# taipy-tunnel: ends what sshd keeps of links that have gone silent. Rendered: changes here are lost.
# When a NAT or a firewall forgets a connection, neither end is told: sshd notices after a minute, and visitors wait for it.
# Twice a second this asks the kernel about sshd's connections, and five times while one may be such. It kills a process if its group is
# the tenants', its name is sshd's, and on its own connection bytes are unacknowledged for 2 s and were sent again twice, while nothing
# else was acknowledged either. How old the bytes are the kernel's timer tells: each time they are sent again it is set to twice the time,
# and to the first one when any are acknowledged (RFC 6298, section 5). It takes no orders: it listens nowhere, and reads nothing that a
# tenant can write.
# GIDS (numbers, with | between) and PORTS are the tenants' groups and sshd's ports, if not as below.
set -u; umask 022
export LC_ALL=C PATH="/usr/sbin:/usr/bin:/sbin:/bin"
STATE={{.Layout.Run}}/.stale SAID='' KNOWN='' left=0
# In: the answer of ss, a line for each connection, whose first ino: is the kernel's, and a line that begins with white space. Other
# accounts can choose words that come later in these (cgroup:, md5keys:), of their own connections alone. Out: the inode of each that is
# stale, and "soon" if another one may be. timer: is (on,what is left of the present time,how often it was over), rto: the present
# time. Before the first one there may be a probe, so bytes are up to 0.2 s older than that says.
# shellcheck disable=SC2016
JUDGE='
function of(name, i) { for (i = 1; i <= NF; i++) if (index($i, name ":") == 1) return substr($i, length(name) + 2); return "" }
function left(t) { return t ~ /^[0-9]+ms$/ ? t + 0 : t ~ /^[0-9]+(\.[0-9]+ms|sec)$/ ? 1000 * t : of("rto") } # "204ms", "3sec", "1.592ms" for both
/^[^ \t]/ { sub(/ (sk|cgroup):.*/, ""); ino = of("ino"); split(of("timer"), timer, /[(),]/); next }
ino ~ /^[1-9][0-9]*$/ && of("unacked") + 0 > 0 && timer[2] == "on" && timer[4] + 0 >= 2 {
	print (of("lastack") + 0 >= 2000 && of("rto") * (2 - 1 / 2 ^ timer[4]) - left(timer[3]) >= 2000) ? ino : "soon"
}
{ ino = "" }'
state() { # told to the check ports, and to the journal if it is new
	if [ "$1" = "$SAID" ]; then { echo "$1" 1<>$STATE; } 2>/dev/null; return; fi # over itself, for it may be read meanwhile
	SAID=$1 && echo "$1" && { echo "$1" >$STATE; } 2>/dev/null
}
learn() { # once a minute
	left=120 GIDS=${GIDS:-$(getent group taipy-tunnel | cut -d: -f3)} KNOWN=''
	for port in ${PORTS:-$(sshd -T 2>/dev/null | sed -n 's/^listenaddress .*:\([0-9]\{1,5\}\)$/\1/p')}; do KNOWN="${KNOWN:+$KNOWN or }sport = :$port"; done
}
held() { # PID INODE for each socket of a tenant's process of sshd
	grep -lE "^Gid:([[:space:]]+($GIDS)){4}\$" /proc/[0-9]*/status 2>/dev/null | while IFS=/ read -r _ _ pid _; do
		name='' && { read -r name <"/proc/$pid/comm"; } 2>/dev/null
		case $name in sshd | sshd-session) printf '/proc/%s/fd\n' "$pid" ;; esac
	done | xargs -r sh -c 'find "$@" -lname "socket:*" -printf "%h %l\n"' sh 2>/dev/null | sed -n 's|^/proc/\([0-9]*\)/fd socket:\[\([0-9]*\)\]$|\1 \2|p'
}
end() { # INODES
	held | while read -r pid ino; do
		case " $* " in *" $ino "*) ;; *) continue ;; esac
		# once more, in the last instant: its number may be another process's by now
		if readlink "/proc/$pid/fd/"* 2>/dev/null | grep -qxF "socket:[$ino]" && kill -KILL "$pid" 2>/dev/null; then
			printf '%s\n' "ended sshd's process $pid: its connection has acknowledged nothing for 2 s"
		fi
	done
}
look() {
	answer=$(ss -Htineo state established "( $KNOWN )" 2>&1) || { state "ss: $answer"; return 1; }
	stale=''
	case $answer in
		*unacked:*) stale=$(printf '%s\n' "$answer" | awk "$JUDGE") || { state "awk fails"; return 1; } ;;
		*segs_in:* | '') ;;
		*) state "ss tells too little: $answer"; return 1 ;; # as without the kernel's tcp_diag
	esac
	case $stale in *soon*) pause=0.2 ;; esac
	# shellcheck disable=SC2086 # several
	case $stale in *[0-9]*) end $stale ;; esac
}
while [ -e "$0" ]; do # until it is removed
	[ $((left -= 1)) -gt 0 ] || learn
	pause=0.5
	if [ -z "$GIDS" ]; then state "there is no group taipy-tunnel"
	elif [ -z "$KNOWN" ]; then state "sshd -T names no port" && left=10
	elif look; then state looks; fi
	sleep $pause
done
