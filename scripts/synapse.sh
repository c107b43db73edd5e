#!/usr/bin/env bash
# Runs a throw-away Synapse, a Matrix homeserver, on loopback until it is
# interrupted, for the tests of cheq/matrix. Its programs come from Debian, into a
# folder of their own (about 700 MB, once, some minutes); its data is in a
# temporary folder. Wants root, for the folder's package manager.
#
#   scripts/synapse.sh            installs where that was not done, and serves
#   scripts/synapse.sh COMMAND…   serves while the command runs, with the
#                                 variables XIEZHI_TEST_SYNAPSE and …_SECRET
set -euo pipefail
root=${XIEZHI_SYNAPSE_ROOT:-/var/cache/xiezhi/synapse}
port=${XIEZHI_SYNAPSE_PORT:-8448}
mirror=${XIEZHI_DEBIAN_MIRROR:-http://deb.debian.org/debian}

if [[ ! -e $root/installed ]]; then
	if ! command -v debootstrap >/dev/null; then
		apt-get update -qq && apt-get install -qq -y --no-install-recommends debootstrap >&2
	fi
	# What this script left half done is done again; nothing else is removed.
	if [[ -e $root && ! -e $root.begun ]]; then
		echo "$root is not of this script: name another folder in XIEZHI_SYNAPSE_ROOT" >&2
		exit 1
	fi
	mkdir -p "$(dirname "$root")"
	touch "$root.begun"
	rm -rf "$root"
	mkdir "$root"
	export DEBIAN_FRONTEND=noninteractive
	debootstrap --variant=minbase sid "$root" "$mirror" >&2
	# Nothing is started by being installed.
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod +x "$root/usr/sbin/policy-rc.d"
	# By apt: debootstrap does not know packages that are provided by others.
	chroot "$root" apt-get install -qq -y --no-install-recommends matrix-synapse >&2
	touch "$root/installed"
	rm "$root.begun"
fi

data=$(mktemp -d "$root/tmp/homeserver-XXXXXX")
secret=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
inside=${data#"$root"}
server=
stop() {
	if [[ -n $server ]]; then
		kill "$server" 2>/dev/null || true
		wait "$server" 2>/dev/null || true
	fi
	rm -rf "$data"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Nothing but the client API on loopback: no federation, no reports, no limits
# that tests would run into.
cat >"$data/homeserver.yaml" <<YAML
server_name: localhost
pid_file: $inside/homeserver.pid
listeners:
  - {port: $port, type: http, tls: false, bind_addresses: ["127.0.0.1"], resources: [{names: [client], compress: false}]}
database: {name: sqlite3, args: {database: "$inside/homeserver.db"}}
log_config: $inside/log.yaml
media_store_path: $inside/media
signing_key_path: $inside/signing.key
registration_shared_secret: "$secret"
macaroon_secret_key: "$secret"
form_secret: "$secret"
bcrypt_rounds: 4
report_stats: false
enable_registration: false
trusted_key_servers: []
federation_domain_whitelist: []
suppress_key_server_warning: true
rc_message: {per_second: 1000, burst_count: 1000}
rc_login: {address: {per_second: 1000, burst_count: 1000}, account: {per_second: 1000, burst_count: 1000}}
rc_joins: {local: {per_second: 1000, burst_count: 1000}}
rc_invites: {per_room: {per_second: 1000, burst_count: 1000}, per_user: {per_second: 1000, burst_count: 1000}, per_issuer: {per_second: 1000, burst_count: 1000}}
YAML
cat >"$data/log.yaml" <<YAML
version: 1
handlers: {file: {class: logging.FileHandler, filename: "$inside/homeserver.log"}}
root: {level: WARNING, handlers: [file]}
YAML

chroot "$root" python3 -m synapse.app.homeserver -c "$inside/homeserver.yaml" --generate-keys >&2
chroot "$root" python3 -m synapse.app.homeserver -c "$inside/homeserver.yaml" >&2 &
server=$!
url=http://127.0.0.1:$port
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
	if ! kill -0 "$server" 2>/dev/null; then
		tail -n 20 "$data/homeserver.log" >&2 || true
		exit 1
	fi
	sleep 0.1
done

export XIEZHI_TEST_SYNAPSE=$url XIEZHI_TEST_SYNAPSE_SECRET=$secret
if (($# > 0)); then
	"$@"
else
	printf 'XIEZHI_TEST_SYNAPSE=%s\nXIEZHI_TEST_SYNAPSE_SECRET=%s\n' "$url" "$secret"
	wait "$server"
fi
