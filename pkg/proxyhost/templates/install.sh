#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes this machine a prepared proxy of taipy-tunnel, or brings it up to date. Run as root; again and
# again does no harm. What sshd or nginx refuses is taken back.
#   sh FILE: installs. sh FILE remove: undoes it, packages stay. sh FILE files DIR: only shows the files, below DIR
set -eu; umask 022
export LC_ALL=C PATH="/usr/sbin:/usr/bin:/sbin:/bin"
TENANTS='{{.TenantList}}' ETC={{.Layout.Etc}} RUN={{.Layout.Run}} SSHD={{.Layout.SSHD}} SITE={{.Layout.Site}} UNIT={{.Layout.Unit}} LOG={{.Layout.Log}}
{{if eq .TLS.Mode "certbot"}}LIVE=/etc/letsencrypt/live/taipy-tunnel HOSTS='{{join .Names " "}}'
{{end}}{{if .OwnCertificate}}NAMES='{{.Addresses}}'
{{end}}NGINX=/etc/nginx/nginx.conf DO=${1:-install} WORK=$(mktemp -d) TOUCHED='' DONE=''; NEW=$WORK/new
say() { printf '%s\n' "taipy-tunnel: $*" || :; }
die() { say "$*" >&2 && exit 1; }
file() { mkdir -p "$NEW${1%/*}"; cat >"$NEW$1"; } # what is to be at a path
keep() { # before it is changed
	TOUCHED="$TOUCHED $1"
	[ ! -e "$1" ] || { mkdir -p "$WORK/old${1%/*}" && cp -p "$1" "$WORK/old$1"; }
}
place() { mkdir -p "${2%/*}" && cp -p "$1" "${2%/*}/.taipy-tunnel.new" && mv "${2%/*}/.taipy-tunnel.new" "$2"; } # FROM TO, at once
put() { cmp -s "$NEW$1" "$1" || { keep "$1" && place "$NEW$1" "$1"; }; }
finish() { # to its end, though nobody may hear it any more
	status=$? && trap '' HUP INT TERM PIPE && set +e
	[ $status = 0 ] || [ -n "$DONE" ] || for f in $TOUCHED; do
		case $f in account:*) userdel "${f#*:}" && continue ;; esac
		if [ -e "$WORK/old$f" ]; then place "$WORK/old$f" "$f"; else rm -f "$f"; fi && say "taken back: $f" >&2
	done
	rm -rf "$WORK"
}
trap finish EXIT && trap 'exit 1' HUP INT TERM PIPE
touched() { case " $TOUCHED " in *" $1"*) ;; *) return 1 ;; esac; }
ours() { # accounts that we made: their group tells
	gid=$(getent group taipy-tunnel | cut -d: -f3)
	[ -z "$gid" ] || getent passwd | awk -F: -v g="$gid" '$4 == g && $3 > 0 { print $1 }'
}
end_links() { # an account's processes are sshd's, for it can run nothing else
	uid=$(id -u "$1")
	for _ in 1 2 3 4 5 6 7 8 9; do
		grep -lE "^Uid:[[:space:]]+[0-9]+[[:space:]]+${uid}[[:space:]]" /proc/[0-9]*/status 2>/dev/null | cut -d/ -f3 >"$WORK/pids" || :
		[ -s "$WORK/pids" ] || return 0
		xargs kill -KILL <"$WORK/pids" 2>/dev/null || :; sleep 0.1 # until sshd has seen their end, as userdel wants
	done
}
lost() { # whether a file has lost a line
	[ -e "$WORK/old$1" ] || return 1
	sed 's/,$//' "$1" >"$WORK/now" 2>/dev/null || :
	sed 's/,$//' "$WORK/old$1" | grep -qvxFf "$WORK/now"
}
reload() { # reload UNIT PIDFILE: connections stay
	if [ -d /run/systemd/system ]; then systemctl reload-or-restart "$1"; elif [ -s "$2" ]; then kill -HUP "$(cat "$2")"; fi
}
effective() { sshd -T -C "user=$1,host=x,addr=192.0.2.1"; }
{{range .Files -}}
file {{.Path}} <<'TAIPY_TUNNEL_END'
{{.Text}}TAIPY_TUNNEL_END
{{end -}}
[ "$DO" != files ] || { mkdir -p "${2:?where to}" && cd "$2" && { [ ! -s .taipy-tunnel ] || grep -qvE '^\./[A-Za-z0-9_./-]+$' .taipy-tunnel || grep -qF .. .taipy-tunnel || xargs rm -f <.taipy-tunnel; } && cp -R "$NEW/." . && (cd "$NEW" && find . -type f) >.taipy-tunnel && exit 0; } # in place of those that an earlier run has left there
case $DO in install | remove) ;; *) die "unknown: $DO" ;; esac
[ "$(id -u)" = 0 ] || die "run me as root"
[ "$DO" = install ] || { TENANTS='' && rm -rf "$NEW" && mkdir "$NEW"; }
grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release 2>/dev/null || die "this is neither Debian nor Ubuntu. By hand:
  1. install OpenSSH 8.9 and nginx 1.22, or newer; groupadd --system taipy-tunnel; for each of $TENANTS:
     useradd --system --gid taipy-tunnel --home-dir /nonexistent --shell /usr/sbin/nologin NAME; usermod -p '*' NAME
  2. put the files in place (sh FILE files DIR shows them), with nginx's own group in place of www-data
  3. systemd-tmpfiles --create; sshd -t; nginx -t; reload both; systemctl enable --now taipy-tunnel-stale; with SELinux let nginx connect to sshd's sockets"
{ exec 9>/run/taipy-tunnel.lock && flock -n 9; } || die "another run is under way"
if [ "$DO" = install ]; then
	for t in $TENANTS; do ! id "$t" >/dev/null 2>&1 || ours | grep -qx "$t" || die "the account $t exists and is not ours: choose another name"; done
	packages=''
	for p in sshd=openssh-server nginx=nginx ss=iproute2{{if .OwnCertificate}} openssl=openssl{{end}}; do command -v "${p%=*}" >/dev/null || packages="$packages ${p#*=}"; done
	# shellcheck disable=SC2086 # several packages
	[ -z "$packages" ] || { say "installing$packages" && { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } >"$WORK/apt" 2>&1; } || die "$(cat "$WORK/apt")"
fi
mkdir -p /run/sshd "$NEW/etc/nginx" && OTHERS=$(effective root)
# what lies in a file of others: marked lines
sed '/# taipy-tunnel$/d; s/worker_connections 16384; # taipy-tunnel instead of //' $NGINX >"$NEW$NGINX"
if [ "$DO" = install ]; then
	grep -qE '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/\*\.conf' /etc/ssh/sshd_config ||
		die "sshd reads no drop-ins: make this the first line of /etc/ssh/sshd_config: Include /etc/ssh/sshd_config.d/*.conf"
	n=$(sed -n 's/^[[:space:]]*worker_connections[[:space:]]*\([0-9]*\);.*/\1/p' "$NEW$NGINX" | head -n 1)
	[ "${n:-16384}" -ge 16384 ] || sed -i 's/^\([[:space:]]*\)\(worker_connections[[:space:]]*[0-9]*;\)/\1worker_connections 16384; # taipy-tunnel instead of \2/' "$NEW$NGINX"
	grep -q '^[[:space:]]*worker_rlimit_nofile' "$NEW$NGINX" || sed -i '1i worker_rlimit_nofile 65536; # taipy-tunnel' "$NEW$NGINX"
	# this nginx, this kernel
	grep -q 'include .*/sites-enabled/' $NGINX || { file /etc/nginx/conf.d/zz-taipy-tunnel.conf <"$NEW$SITE" && rm "$NEW$SITE" && SITE=/etc/nginx/conf.d/zz-taipy-tunnel.conf; }
	[ -e /proc/net/if_inet6 ] || sed -i '/listen \[::\]:/d' "$NEW$SITE" "$NEW$ETC/nginx/listen.conf"
	! nginx -v 2>&1 | awk -F'[/. ]' '{ exit !($4 * 1000000 + $5 * 1000 + $6 >= 1025001) }' || # which has another line for it
		sed -i 's/ ssl http2;/ ssl;/; s/^ssl_protocols/http2 on;\n&/' "$NEW$ETC/nginx/listen.conf"
{{- if .OwnCertificate}}
	tls=$ETC/tls && mkdir -p "$NEW$tls"
	if [ "$(cat $tls/names 2>/dev/null)" = "$NAMES" ] && openssl x509 -noout -checkend 2592000 -in $tls/certificate.pem >/dev/null; then
		cp -p $tls/* "$NEW$tls/"
	else
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 800 -subj /CN=taipy-tunnel \
			-addext "subjectAltName=$NAMES" -keyout "$NEW$tls/key.pem" -out "$NEW$tls/certificate.pem" 2>/dev/null
		chmod 600 "$NEW$tls/key.pem" && printf '%s\n' "$NAMES" >"$NEW$tls/names"
	fi
{{- end}}
{{- if eq .TLS.Mode "certbot"}}
	[ ! -e $LIVE/fullchain.pem ] || sed -i "s|$tls/certificate.pem|$LIVE/fullchain.pem|; s|$tls/key.pem|$LIVE/privkey.pem|" "$NEW$SITE" "$NEW$ETC/nginx/listen.conf"
{{- end}}
	: >"$NEW$ETC/list" && (cd "$NEW" && find . -type f ! -path ".$NGINX" | sed 's/^\.//' | sort) >"$WORK/list" && cp "$WORK/list" "$NEW$ETC/list"
fi
# what was ours and is no more, then what is new
for f in $([ ! -e $ETC/list ] || sort $ETC/list); do [ -e "$NEW$f" ] || { keep "$f" && rm -f "$f"; }; done
for f in $(cd "$NEW" && find . -type f | sed 's/^\.//'); do put "$f"; done
sshd -t || die "sshd refuses the new configuration"
[ "$(effective root)" = "$OTHERS" ] || die "the logins of others would change"
for t in $TENANTS; do
	effective "$t" >"$WORK/effective"
	for line in "chrootdirectory $RUN/%u" 'forcecommand internal-sftp -R' 'permitlisten none' 'permitopen 127.0.0.1:[0-9]*' \
		'authenticationmethods publickey' "authorizedkeysfile $ETC/keys/%u" 'trustedusercakeys \(none\|'$ETC'/ca/.*\)'; do
		grep -qx "$line" "$WORK/effective" || die "another file of sshd's comes first, so that this is not so for $t: $line"
	done
done
nginx -t -q || die "nginx refuses the new configuration"
# accounts and their directories
gone=$(ours)
[ -z "$TENANTS" ] || getent group taipy-tunnel >/dev/null || groupadd --system taipy-tunnel
for t in $TENANTS; do
	gone=$(printf '%s\n' "$gone" | grep -vx "$t" || :)
	id "$t" >/dev/null 2>&1 || { useradd --system --gid taipy-tunnel --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$t" && usermod -p '*' "$t" && TOUCHED="$TOUCHED account:$t"; }
	install -d -m 755 $RUN "$RUN/$t"
	install -d -o "$t" -g www-data -m 2750 "$RUN/$t/s"
	cmp -s "$ETC/proxy/$t.json" "$RUN/$t/proxy.json" || place "$ETC/proxy/$t.json" "$RUN/$t/proxy.json"
done
DONE=yes && trap '' HUP INT TERM PIPE # nothing is taken back any more: to the end, lest files be there that nobody has read
if touched $SSHD; then reload ssh /run/sshd.pid; fi
if touched /etc/nginx/ || touched $ETC/nginx/ || touched $ETC/tls/; then reload nginx /run/nginx.pid; fi
unit=${UNIT##*/} # ends stale links
if [ ! -d /run/systemd/system ]; then
	! touched $ETC/stale.sh || [ "$DO" = remove ] || say "no systemd runs here: have root run, always: sh $ETC/stale.sh"
elif [ "$DO" = remove ]; then
	systemctl stop "$unit" 2>/dev/null || :
	rm -f "/etc/systemd/system/multi-user.target.wants/$unit" && systemctl daemon-reload
elif ! { { ! touched "$UNIT" && ! touched $ETC/stale.sh || { systemctl daemon-reload && systemctl stop "$unit"; }; } && systemctl -q enable --now "$unit"; }; then
	say "$unit does not run, which ends stale links: systemctl status $unit"
fi
for t in $TENANTS; do
	if touched "$ETC/revoked/$t" || lost "$ETC/keys/$t" || lost "$ETC/ca/$t" || lost "$ETC/principals/$t" || lost "$ETC/proxy/$t.json"; then
		end_links "$t" && say "ended the links of $t, which lost keys or apps"; fi
done
for t in $gone; do
	{ end_links "$t" && userdel "$t" && rm -rf "${RUN:?}/$t" && TOUCHED="$TOUCHED account:$t"; } || die "$t can log in no more, and its account could not be removed: run me again"
done
if [ "$DO" = remove ]; then
	! getent group taipy-tunnel >/dev/null || groupdel taipy-tunnel
	rm -rf $ETC $RUN {{.Layout.Cache}} $LOG/taipy-tunnel.*.log* /run/taipy-tunnel.lock && say "removed; packages stay" && exit 0
fi
say "${TOUCHED:+changed:}${TOUCHED:-unchanged}"
{{if eq .TLS.Mode "certbot" -}}
lacks='' && for name in $HOSTS; do openssl x509 -noout -checkhost "$name" -in $LIVE/fullchain.pem 2>/dev/null | grep -q 'does match' || lacks="$lacks $name"; done
[ -z "$lacks" ] || { mkdir -p $ETC/webroot && say "no certificate that browsers trust yet for$lacks; run this, and me again:
  certbot certonly --webroot -w $ETC/webroot --cert-name taipy-tunnel -d {{join .Names ","}} --deploy-hook 'systemctl reload nginx'"; }
{{end -}}if effective root | grep -qE '^(allow|deny)(users|groups) '; then say "sshd_config lets only some accounts in (AllowUsers and the like): see that the tenants are among them"; fi
say "host key $(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)"
