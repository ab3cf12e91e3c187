#!/bin/sh
# example.sh NAME [options of kamailio]: starts one of the examples with this product's modules, and makes its database
# when there is none. Without a name it lists them. Environment:
#   ADDRESS    where it listens (127.0.0.1); others reach it only when you say so
#   PORT       SIP (5060)
#   HTTP_PORT  web (8080)           INTERNAL_PORT  the server's own publications, loopback (5070)
#   TLS        1: the telephone system also listens for SIP over TLS and secure WebSocket (0), at TLS_PORT (8443), with
#              a certificate of its own that is made when there is none
#   TRUSTED    network whose requests need no password (127.0.0.0/8), for the examples without accounts
#   DOMAIN     the SIP domain and the realm of accounts (example.org)
#   ORIGINS    web pages that may open a WebSocket, a regular expression
#              (^https?://(127\.0\.0\.1|localhost)(:[0-9]+)?$)
#   CHANGES    1: the status page may end subscriptions and remove publications (0)
#   TRUSTED_LIST  file of servers whose P-Asserted-Identity is believed
#   DB_URL     another database, which has its tables already
#   STATE      folder for database, control socket and accounts
#   PRESENCE_MODULES, STOCK_MODULES  the two module folders           NODES, PEER  addresses of other nodes
#   MEMORY     shared memory in MB (64)
set -eu
say() { printf '%s\n' "== $*" >&2; }
fail() { printf '%s\n' "error: $*" >&2; exit 1; }
here=$(dirname "$(readlink -f "$0")")
if [ -d "$here/../examples" ]; then
	root=$(cd "$here/.." && pwd)
	examples=$root/examples ours=$root/target/modules states=$root/target/examples database=$here/database.sh
	built="build them with make build"
else
	examples=/usr/share/doc/kamailio-presence/examples database=$here/kamailio-presence-database
	# Debian's place, an RPM's, a container's.
	ours=$(ls -d /usr/lib/*/kamailio-presence/modules /usr/lib64/kamailio-presence/modules \
		/usr/lib/kamailio-presence/modules 2>/dev/null | head -n 1)
	states=${XDG_STATE_HOME:-$HOME/.local/state}/kamailio-presence
	built="install the package kamailio-presence"
fi

list() { (cd "$examples" && ls -d -- *.cfg */kamailio.cfg | sed 's|/kamailio.cfg||; s|\.cfg$||'); }
name=${1:-}
[ -n "$name" ] || { echo "examples:"; list | sed 's/^/  /'; exit 0; }
shift
config=$examples/$name.cfg
[ -f "$config" ] || config=$examples/$name/kamailio.cfg
[ -f "$config" ] || fail "there is no example $name: $(list | tr '\n' ' ')"

number() { # variable, value
	case $2 in '' | *[!0-9]* | 0* | ??????*) fail "$1=$2: a port is a number from 1 to 65535" ;;
	esac
	[ "$2" -le 65535 ] || fail "$1=$2: a port is a number from 1 to 65535"
}
plain() { case $2 in '' | *[!A-Za-z0-9.:/_-]*) fail "$1=$2: letters, digits, . : / _ and - only" ;; esac; }
address=${ADDRESS:-127.0.0.1} port=${PORT:-5060} http=${HTTP_PORT:-8080} internal=${INTERNAL_PORT:-5070}
trusted=${TRUSTED:-127.0.0.0/8} domain=${DOMAIN:-example.org} peer=${PEER:-127.0.0.2}
case ${TLS:-0} in 0 | 1) ;; *) fail "TLS=$TLS: 0 or 1" ;; esac
case ${CHANGES:-0} in 0 | 1) ;; *) fail "CHANGES=$CHANGES: 0 or 1" ;; esac
tls_port=${TLS_PORT:-8443}
number TLS_PORT "$tls_port"; number PORT "$port"; number HTTP_PORT "$http"; number INTERNAL_PORT "$internal"
plain ADDRESS "$address"; plain TRUSTED "$trusted"; plain DOMAIN "$domain"; plain PEER "$peer"
# No two of the ports that this example listens on are the same.
ports="PORT=$port"
! grep -q HTTP_PORT "$config" || ports="$ports HTTP_PORT=$http"
! grep -q INTERNAL_PORT "$config" || ports="$ports INTERNAL_PORT=$internal"
[ "${TLS:-0}" = 0 ] || ports="$ports TLS_PORT=$tls_port"
seen=
for pair in $ports; do
	case " $seen " in *" ${pair#*=} "*) fail "$pair is another port of this example already: $ports" ;; esac
	seen="$seen ${pair#*=}"
done
ours=${PRESENCE_MODULES:-$ours}
stock=${STOCK_MODULES:-}
if [ -f "$here/kamailio_host.py" ]; then
	kamailio=$(python3 "$here/kamailio_host.py" get binary)
	[ -n "$stock" ] || stock=$(python3 "$here/kamailio_host.py" get modules)
else
	kamailio=${KAMAILIO_BIN:-$(command -v kamailio || echo /usr/sbin/kamailio)}
	[ -x "$kamailio" ] || fail "there is no kamailio: install it, or name it with KAMAILIO_BIN"
	for folder in /usr/lib/*/kamailio/modules /usr/lib64/kamailio/modules /usr/lib/kamailio/modules; do
		[ -n "$stock" ] || [ ! -d "$folder" ] || stock=$folder
	done
fi
[ -f "$ours/libkamailio_presence.so" ] || fail "this product's modules are not in ${ours:-any known folder}: $built"

state=${STATE:-}
if [ -z "$state" ]; then
	state=$states/$(basename "$name")
	[ "$address:$port" = 127.0.0.1:5060 ] || state=$state-$address-$port
fi
mkdir -p "$state"
state=$(cd "$state" && pwd)

uses() { grep -q "$1" "$config"; }
if [ -z "${DB_URL:-}" ] && uses db_sqlite; then
	if [ ! -e "$state/presence.sqlite" ]; then
		"$database" create "$state/presence.sqlite"
		say "created $state/presence.sqlite"
	fi
	DB_URL=sqlite:///$state/presence.sqlite
	export DB_URL
elif [ -z "${DB_URL:-}" ] && uses db_postgres; then
	fail "$name needs a PostgreSQL with Kamailio's tables (kamdbctl create): DB_URL=postgres://USER:PASSWORD@HOST/DATABASE"
fi
# Two accounts with passwords nobody else knows.
if uses auth_db && [ -f "$state/presence.sqlite" ] && [ ! -e "$state/accounts" ]; then
	umask 077
	for user in alice bob; do
		password=$(od -An -N9 -tx1 /dev/urandom | tr -d ' \n')
		printf '%s\n' "$password" | "$database" user "$state/presence.sqlite" "$user" "$domain"
		printf '%s %s\n' "$user" "$password" >>"$state/accounts.new"
	done
	mv "$state/accounts.new" "$state/accounts"
fi
if uses NODES_LIST; then
	[ -n "${NODES:-}" ] || fail "name the presence servers: NODES=\"sip:192.0.2.11:5060 sip:192.0.2.12:5060\""
	for node in $NODES; do printf '1 %s\n' "$node"; done >"$state/nodes.list"
fi

# A certificate that its own phones and browsers are configured to trust.
if [ "${TLS:-0}" = 1 ]; then
	uses WITH_TLS || fail "TLS=1: $name has no TLS, pbx has"
	[ -f "$stock/tls.so" ] || fail "TLS=1: there is no tls.so in $stock: install kamailio-tls-modules"
	if [ ! -e "$state/tls.pem" ]; then
		command -v openssl >/dev/null || fail "TLS=1: there is no openssl to make a certificate with: install openssl"
		(umask 077 && openssl req -x509 -newkey rsa:2048 -nodes -days 825 -subj "/CN=$domain" \
			-addext "subjectAltName=DNS:$domain,DNS:localhost,IP:$address" -keyout "$state/tls.key" \
			-out "$state/tls.new" 2>/dev/null) ||
			fail "openssl cannot make a certificate for $address"
		mv "$state/tls.new" "$state/tls.pem"
		say "made a certificate that nobody else has signed: $state/tls.pem"
	fi
	set -- "$@" -A WITH_TLS -A "TLS_PORT=$tls_port" -A "TLS_KEY=\"$state/tls.key\"" -A "TLS_CERTIFICATE=\"$state/tls.pem\""
	say "TLS at $address:$tls_port (wss://$address:$tls_port for browsers)"
fi

# Commands come over loopback, also where phones reach another address.
! uses WITH_LOOPBACK || case $address in 127.0.0.1 | 0.0.0.0) ;; *) set -- "$@" -A WITH_LOOPBACK ;; esac
if [ -n "${ORIGINS:-}" ]; then
	uses ORIGINS || fail "ORIGINS: $name has no WebSocket, pbx has"
	case $ORIGINS in *\"*) fail "ORIGINS: no quotes" ;; esac
	set -- "$@" -A "ORIGINS=\"$ORIGINS\""
fi

say "$name: SIP at $address:$port, configuration $config"
! uses HTTP_PORT || say "HTTP at $address:$http"
[ ! -f "$state/accounts" ] ||
	say "accounts of $domain, user and password: $(paste -sd',' "$state/accounts") (in $state/accounts)"
say "in another terminal: kamcmd -s unix:$state/ctl presence.version"
trusted_list=${TRUSTED_LIST:-$examples/trusted.list}
case $name in
kemi-python) script=$examples/kemi/presence.py ;;
kemi-javascript) script=$examples/kemi/presence.js ;;
*) script=$examples/kemi/presence.lua ;;
esac
# A script's bytecode would stay in the folder of the examples.
export DOMAIN="$domain" PYTHONDONTWRITEBYTECODE=1
exec "$kamailio" -DD -E -f "$config" -m "${MEMORY:-64}" -M 16 -Y "$state" -P "$state/kamailio.pid" \
	-A "ADDRESS=$address" -A "PORT=$port" -A "HTTP_PORT=$http" -A "INTERNAL_PORT=$internal" -A "TRUSTED=$trusted" \
	-A "CHANGES=${CHANGES:-0}" \
	-A "MODULES=\"$ours/:$stock/\"" -A "CTL=\"unix:$state/ctl\"" -A "NODES_LIST=\"$state/nodes.list\"" \
	-A "TRUSTED_LIST=\"$trusted_list\"" -A "SCRIPT=\"$script\"" -A "INTERNAL_URI=\"sip:127.0.0.1:$internal\"" \
	-A "DOMAIN=\"$domain\"" -A "OWN_URI=\"sip:$address:$port\"" -A "OWN_SOCKET=\"udp:$address:$port\"" \
	-A "PEER_URI=\"sip:$peer:$port\"" -A "PEER=$peer" "$@"
