#!/bin/sh
# phone.sh USER [BUDDY...]: a baresip softphone in this terminal, registered at the telephone system of this example as
# USER, with a lamp for each BUDDY (bob for alice, alice for anybody else). PORT (5060), ADDRESS (127.0.0.1), DOMAIN
# (example.org) and STATE are those of the server; SIP_PORT is the phone's own (one that is free). Needs baresip
# (apt-get install baresip-core).
set -eu
fail() { printf '%s\n' "error: $*" >&2; exit 1; }
[ $# -ge 1 ] || { sed -n '2,/^set/s/^# //p' "$0" >&2; exit 2; }
user=$1
shift
[ $# -gt 0 ] || if [ "$user" = alice ]; then set -- bob; else set -- alice; fi
for name in "$user" "$@"; do
	case $name in *[!A-Za-z0-9._+-]* | '') fail "$name is no user name" ;; esac
done
address=${ADDRESS:-127.0.0.1} port=${PORT:-5060} domain=${DOMAIN:-example.org}
for number in "$port" "${SIP_PORT:-5081}"; do
	case $number in '' | *[!0-9]* | 0* | ??????*) fail "$number is no port: a port is a number from 1 to 65535" ;; esac
	[ "$number" -le 65535 ] || fail "$number is no port: a port is a number from 1 to 65535"
done
for word in "$address" "$domain"; do
	case $word in *[!A-Za-z0-9.:-]* | '') fail "$word is no address and no domain" ;; esac
done
command -v baresip >/dev/null || fail "there is no baresip: install it (apt-get install baresip-core)"

# Where the server keeps its accounts: in the clone, or with the package in the home of the user who started it.
here=$(dirname "$(readlink -f "$0")")
if [ -f "$here/../../Makefile" ]; then
	state=$(cd "$here/../.." && pwd)/target/examples/pbx
else
	state=${XDG_STATE_HOME:-$HOME/.local/state}/kamailio-presence/pbx
fi
[ "$address:$port" = 127.0.0.1:5060 ] || state=$state-$address-$port
state=${STATE:-$state}
[ -r "$state/accounts" ] ||
	fail "there are no accounts in $state: start the telephone system first (pbx), with the same ADDRESS, PORT and STATE"
password=$(sed -n "s/^$user //p" "$state/accounts" | head -n 1)
[ -n "$password" ] ||
	fail "$user has no account in $state/accounts, which has $(cut -d' ' -f1 "$state/accounts" | paste -sd' ')"

modules=
for folder in /usr/lib/baresip/modules /usr/lib/*/baresip/modules; do
	[ -n "$modules" ] || [ ! -d "$folder" ] || modules=$folder
done
[ -n "$modules" ] || fail "baresip's modules are in none of the usual folders"
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
umask 077
printf '<sip:%s@%s;transport=udp>;auth_pass=%s;outbound="sip:%s:%s;transport=udp";regint=600\n' \
	"$user" "$domain" "$password" "$address" "$port" >"$own/accounts"
for buddy in "$@"; do printf '"%s" <sip:%s@%s>;presence=p2p\n' "$buddy" "$buddy" "$domain"; done >"$own/contacts"
# No sound: two phones on one machine would disturb each other. Port 0 is one that is free.
{
	echo "sip_listen $address:${SIP_PORT:-0}"
	echo "net_interface $address"
	echo "audio_player aubridge,$user"
	echo "audio_source aubridge,$user"
	echo "audio_alert aubridge,$user-alert"
	echo "module_path $modules"
	for module in stdio g711 aubridge; do [ ! -f "$modules/$module.so" ] || echo "module $module.so"; done
	echo "module_tmp account.so"
	for module in contact presence menu; do [ ! -f "$modules/$module.so" ] || echo "module_app $module.so"; done
} >"$own/config"
echo "== $user at $address:$port: /contacts shows the lamps, /dial sip:$1@$domain calls, b hangs up, q ends"
HOME=$own baresip -f "$own"
