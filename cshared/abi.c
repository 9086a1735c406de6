// SPDX-License-Identifier: Apache-2.0

// The exported functions are plain C: a process forked from the one that loaded the library has
// none of Go's threads, so a call that entered Go there would wait for its scheduler for ever.
// The child's flag is set before any of its own code runs. It also inherits the connections to
// proxies, and would hold their ports for as long as it lives though its parent were killed: those
// are closed there.

#include "taipy_tunnel.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "_cgo_export.h"

#define PUBLIC __attribute__((visibility("default")))

static atomic_int forked;

// The connections to proxies. An entry whose descriptor is something else by now, which its inode
// tells, is free. A process with many tunnels has further tables, which stay.
enum { TABLE = 64 };
static struct table {
	struct {
		_Atomic int fd; // + 1; 0: free
		_Atomic uint64_t inode;
	} ours[TABLE];
	struct table *_Atomic next;
} first;

static uint64_t inode_of(int fd)
{
	struct stat st;
	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

// Held by who makes an entry, and never asked for in a child.
static pthread_mutex_t owning = PTHREAD_MUTEX_INITIALIZER;

static void own(int fd, uint64_t inode)
{
	for (struct table *t = &first; t; t = atomic_load(&t->next)) {
		for (int i = 0; i < TABLE; i++) {
			int old = atomic_load(&t->ours[i].fd);
			if (old && inode_of(old - 1) == atomic_load(&t->ours[i].inode))
				continue;
			atomic_store(&t->ours[i].inode, inode);
			atomic_store(&t->ours[i].fd, fd + 1);
			return;
		}
		if (!atomic_load(&t->next))
			atomic_store(&t->next, calloc(1, sizeof *t));
	}
}

__attribute__((visibility("hidden"))) void tt__own(int fd)
{
	uint64_t inode = inode_of(fd);
	if (!inode)
		return;
	pthread_mutex_lock(&owning);
	own(fd, inode);
	pthread_mutex_unlock(&owning);
}

// Runs between fork and the child's first own instruction: async-signal-safe calls only.
static void in_child(void)
{
	atomic_store(&forked, 1);
	for (struct table *t = &first; t; t = atomic_load(&t->next)) {
		for (int i = 0; i < TABLE; i++) {
			int fd = atomic_load(&t->ours[i].fd) - 1;
			if (fd >= 0 && inode_of(fd) == atomic_load(&t->ours[i].inode))
				close(fd);
		}
	}
}

// Go's runtime starts in the background while the library is loaded, and replaces what its host
// does with SIGPIPE, which an interpreter ignores. It needs that for nothing that happens here.
static struct sigaction sigpipe;
static atomic_int restored;

// Priority 101, the first there is: before Go's own start.
__attribute__((constructor(101))) static void loaded(void)
{
	sigaction(SIGPIPE, NULL, &sigpipe);
	pthread_atfork(NULL, NULL, in_child);
}

#define REFUSE_FORKED                   \
	do {                            \
		if (atomic_load(&forked)) \
			return TT_FORKED; \
	} while (0)

PUBLIC int32_t tt_abi_version(void)
{
	REFUSE_FORKED;
	int32_t version = go_abi_version(); // returns once Go's runtime is up
	if (!atomic_exchange(&restored, 1))
		sigaction(SIGPIPE, &sigpipe, NULL);
	return version;
}

PUBLIC int32_t tt_info(char *buf, size_t len)
{
	REFUSE_FORKED;
	return go_info(buf, len);
}

PUBLIC int64_t tt_expose(const char *config, int32_t timeout_ms)
{
	REFUSE_FORKED;
	return go_expose((char *)config, timeout_ms);
}

PUBLIC int32_t tt_set_target(int64_t handle, const char *target)
{
	REFUSE_FORKED;
	return go_set_target(handle, (char *)target);
}

PUBLIC int32_t tt_tick(int64_t handle)
{
	REFUSE_FORKED;
	return go_tick(handle);
}

PUBLIC int32_t tt_url(int64_t handle, char *buf, size_t len)
{
	REFUSE_FORKED;
	return go_url(handle, buf, len);
}

PUBLIC int32_t tt_new_token(int64_t handle)
{
	REFUSE_FORKED;
	return go_new_token(handle);
}

PUBLIC int32_t tt_requests(int64_t handle, int32_t n, char *buf, size_t len)
{
	REFUSE_FORKED;
	return go_requests(handle, n, buf, len);
}

PUBLIC int32_t tt_reconnect(int64_t handle)
{
	REFUSE_FORKED;
	return go_reconnect(handle);
}

PUBLIC int32_t tt_status(int64_t handle, char *buf, size_t len)
{
	REFUSE_FORKED;
	return go_status(handle, buf, len);
}

PUBLIC int32_t tt_close(int64_t handle, int32_t drain_ms)
{
	REFUSE_FORKED;
	return go_close(handle, drain_ms);
}

PUBLIC int32_t tt_release(int64_t handle)
{
	REFUSE_FORKED;
	return go_release(handle);
}

PUBLIC int64_t tt_ask(const char *question, int32_t timeout_ms)
{
	REFUSE_FORKED;
	return go_ask((char *)question, timeout_ms);
}

PUBLIC int32_t tt_answer(int64_t handle, char *buf, size_t len)
{
	REFUSE_FORKED;
	return go_answer(handle, buf, len);
}

PUBLIC int32_t tt_event_fd(void)
{
	REFUSE_FORKED;
	return go_event_fd();
}

PUBLIC int32_t tt_events(char *buf, size_t len)
{
	REFUSE_FORKED;
	return go_events(buf, len);
}
