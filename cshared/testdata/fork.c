// SPDX-License-Identifier: Apache-2.0

// Built by TestForkedChildHoldsNoConnection, with abi.c and nothing of Go behind it.

#include "../abi.c"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { MANY = 200 };

static int open_in_child(const int *fds)
{
	pid_t child = fork();
	if (child == 0) {
		int held = 0;
		for (int i = 0; i < MANY; i++)
			held += inode_of(fds[i]) != 0;
		_exit(tt_abi_version() == TT_FORKED ? held : 255);
	}
	int status;
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
	int fds[MANY];
	for (int i = 0; i < MANY; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		tt__own(fds[i]);
	}
	printf("%d\n", open_in_child(fds)); // of ours
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
	for (int i = 0; i < MANY; i++)
		fds[i] = socket(AF_UNIX, SOCK_STREAM, 0); // under the same numbers
	printf("%d\n", open_in_child(fds)); // of somebody else's
	for (int i = 0; i < MANY; i++)
		tt__own(fds[i]);
	int tables = 0;
	for (struct table *t = &first; t; t = t->next)
		tables++;
	printf("%d\n", open_in_child(fds));
	printf("%d\n", tables); // the entries were used again
}
