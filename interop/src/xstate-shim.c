/*
 * Preloaded into user-mode-linux 6.1: PTRACE_SETREGSET with NT_X86_XSTATE wants the whole extended state of the CPU, and the
 * kernel's buffer is shorter than that on CPUs with AMX ("ptrace set fp regs failed, errno = 14", and a panic at start).
 * Here the state is read whole, the caller's part laid over it, and all of it written back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PEEKTEXT 1
#define PEEKUSER 3
#define GETREGSET 0x4204
#define SETREGSET 0x4205
#define X86_XSTATE 0x202

static char state[65536] __attribute__((aligned(64)));

long ptrace(int request, ...)
{
	va_list list;
	va_start(list, request);
	int pid = va_arg(list, int);
	void *address = va_arg(list, void *);
	void *data = va_arg(list, void *);
	va_end(list);

	if (request >= PEEKTEXT && request <= PEEKUSER) {
		/* glibc returns the word; the system call stores it. */
		long word;
		if (syscall(SYS_ptrace, request, pid, address, &word) < 0)
			return -1;
		errno = 0;
		return word;
	}
	if (request == SETREGSET && (long)address == X86_XSTATE) {
		struct iovec *given = data;
		struct iovec whole = { state, sizeof state };
		if (syscall(SYS_ptrace, GETREGSET, pid, address, &whole) == 0 && whole.iov_len > given->iov_len) {
			memcpy(state, given->iov_base, given->iov_len);
			return syscall(SYS_ptrace, request, pid, address, &whole);
		}
	}
	return syscall(SYS_ptrace, request, pid, address, data);
}
