/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bridge - see bridge.h. socketpair() would do, if libmosquitto took a descriptor. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "spooler/mqtt/bridge.h"
#include "spooler/base/util.h"

/* A directory that only we can enter, wherever there is room for one; it lives for some
   microseconds. */
static int make_private_directory(char *path, size_t size)
{
	const char *places[] = {getenv("RUNTIME_DIRECTORY"), "/tmp", RUNDIR, "/dev/shm",
				"/var/tmp"};
	int error = ENOENT;
	size_t i;

	for (i = 0; i < ELEMENTSOF(places); i++) {
		if (!places[i] ||
		    snprintf(path, size, "%s/.virtspool-XXXXXX", places[i]) >= (int)size)
			continue;
		if (mkdtemp(path))
			return 0;
		error = errno;
	}
	return -error;
}

int bridge_listen(struct bridge *b, char ret_path[BRIDGE_PATH_SIZE])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int listener = -1, inode = -1;
	char directory[sizeof(address.sun_path) - 8];
	int r;

	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0)
		return -errno;
	r = make_private_directory(directory, sizeof(directory));
	if (r < 0)
		return r;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		(void)rmdir(directory);
		return r;
	}
	inode = open(address.sun_path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	r = inode < 0 ? -errno : 0;
	(void)unlink(address.sun_path);
	(void)rmdir(directory);
	if (r < 0)
		return r;
	if (listen(listener, 4) < 0)
		return -errno;
	(void)snprintf(ret_path, BRIDGE_PATH_SIZE, "/proc/self/fd/%d", inode);
	b->listener = TAKE_FD(listener);
	b->inode = TAKE_FD(inode);
	return 0;
}

int bridge_accept(struct bridge *b)
{
	_cleanup_close_ int fd = -1;
	struct ucred peer_of = {0};
	socklen_t size = sizeof(peer_of);

	fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer_of, &size) < 0)
		return -errno;
	if (peer_of.pid != getpid())
		return -EPERM;
	return TAKE_FD(fd);
}

void bridge_release(struct bridge *b)
{
	close_fdp(&b->listener);
	close_fdp(&b->inode);
}
