# Read in a tree of hosts.sh, in the sources' folder: where the source of this Debian's Kamailio comes from.
if [ -d /root/kamailio ]; then
	export KAMAILIO_SRC=/root/kamailio
elif ! scripts/setup.sh 2>/root/setup.log; then
	series=$(kamailio -V 2>/dev/null | sed -n 's/^version: [^ ]* \([0-9]*\.[0-9]*\).*/\1/p')
	archive=tests/hosts/kamailio-$series-headers.tar.xz
	cat /root/setup.log >&2
	if ! grep -q 'no source package' /root/setup.log || [ ! -f "$archive" ]; then exit 1; fi
	mkdir -p target/host/headers && tar -xf "$archive" -C target/host/headers
	KAMAILIO_SRC=$(pwd)/target/host/headers
	KAMAILIO_SRC_VERSION=$(sed -n 's/^  VERSION \([0-9.]*\).*/\1/p' target/host/headers/CMakeLists.txt)
	export KAMAILIO_SRC KAMAILIO_SRC_VERSION
	echo "== the headers of Kamailio $KAMAILIO_SRC_VERSION serve" >&2
fi
