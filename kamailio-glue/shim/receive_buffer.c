/* The receive buffers of the UDP sockets. */
#include "kr_shim.h"
#include "core/globals.h"
#include "core/socket_info.h"
#include <sys/socket.h>

/* The size of a socket's buffer as it would be asked for: Linux says twice as much. -1 where there is no socket yet. */
static int size_of(int fd)
{
	int size = 0;
	socklen_t len = sizeof(size);
	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &len) == 0 ? size / 2 : -1;
}

int kr_raise_receive_buffers(int bytes)
{
	struct socket_info *socket;
	int smallest = -1, size;
	for(socket = udp_listen; socket != NULL; socket = socket->next) {
		size = size_of(socket->socket);
		if(size >= 0 && size < bytes
				&& setsockopt(socket->socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) == 0)
			size = size_of(socket->socket);
		if(size >= 0 && (smallest < 0 || size < smallest))
			smallest = size;
	}
	return smallest;
}
