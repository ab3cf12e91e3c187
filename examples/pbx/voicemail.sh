#!/bin/sh
# voicemail.sh USER NEW [OLD]: lights a user's voicemail light when NEW is above 0, and puts it out when it is 0.
# HTTP_PORT (8080) and DOMAIN (example.org) are those of the server. Needs curl.
set -eu
[ $# -ge 2 ] || { sed -n '2,/^set/s/^# //p' "$0" >&2; exit 2; }
user=$1 new=$2 old=${3:-0}
case $user in *[!A-Za-z0-9._+-]* | '') echo "error: $user is no user name" >&2; exit 2 ;; esac
for number in "$new" "$old"; do
	case $number in '' | *[!0-9]* | 0?* | ??????*) echo "error: numbers of messages are 0 to 99999" >&2; exit 2 ;; esac
done
command -v curl >/dev/null || { echo "error: there is no curl: install it (apt-get install curl)" >&2; exit 1; }
waiting=no
[ "$new" = 0 ] || waiting=yes
answer=$(curl -sS --max-time 10 -H 'Content-Type: application/json' "http://127.0.0.1:${HTTP_PORT:-8080}/RPC" -d '{
	"jsonrpc": "2.0", "id": 1, "method": "pua.publish",
	"params": ["sip:'"$user@${DOMAIN:-example.org}"'", "86400", "message-summary",
	"application/simple-message-summary", "voicemail", ".", ".", ".",
	"Messages-Waiting: '"$waiting"'\r\nVoice-Message: '"$new/$old"'\r\n"]}')
case $answer in *'"error"'*) echo "error: $answer" >&2; exit 1 ;; esac
