/*
 * A process that forks while its threads use the library: the child knows none of its handles and may establish
 * contexts of its own, the parent goes on. Says what went wrong and ends with 1, or "ok".
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <winscard.h>

#define ANY (SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1)
#define CHILDREN 20

static SCARDCONTEXT context;
static SCARDHANDLE card;
static char reader[MAX_READERNAME];
static const BYTE echo[] = { 0x00, 0x10, 0x00, 0x00, 0x02, 0xAB, 0xCD };
static atomic_int ended;

static void expect(int line, const char *what, unsigned long expected, unsigned long found)
{
	if (expected != found) {
		printf("fork.c:%d: %s: %lX, not %lX\n", line, what, found, expected);
		fflush(stdout);
		_exit(1);
	}
}

#define IS(expected, call) expect(__LINE__, #call, (unsigned long)(expected), (unsigned long)(call))
#define OK(call) IS(SCARD_S_SUCCESS, call)

static LONG transmit(SCARDHANDLE handle)
{
	BYTE in[MAX_BUFFER_SIZE];
	DWORD length = sizeof in;

	return SCardTransmit(handle, SCARD_PCI_T1, echo, sizeof echo, NULL, in, &length);
}

static void child(void)
{
	SCARDCONTEXT own;
	SCARDHANDLE other;
	DWORD length = sizeof reader, active;

	/* A hang ends the test. */
	alarm(30);
	IS(SCARD_E_INVALID_HANDLE, SCardIsValidContext(context));
	IS(SCARD_E_INVALID_HANDLE, SCardCancel(context));
	IS(SCARD_E_INVALID_HANDLE, transmit(card));
	OK(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &own));
	OK(SCardListReaders(own, NULL, reader, &length));
	OK(SCardConnect(own, reader, SCARD_SHARE_SHARED, ANY, &other, &active));
	OK(transmit(other));
	IS(SCARD_E_INVALID_HANDLE, SCardDisconnect(card, SCARD_LEAVE_CARD));
	OK(SCardDisconnect(other, SCARD_LEAVE_CARD));
	OK(SCardReleaseContext(own));
	IS(SCARD_E_INVALID_HANDLE, SCardReleaseContext(context));
	_exit(0);
}

/* Keeps the library's locks busy. */
static void *busy(void *argument)
{
	(void)argument;
	while (!ended) {
		SCARDCONTEXT other;

		OK(transmit(card));
		OK(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &other));
		OK(SCardReleaseContext(other));
	}
	return NULL;
}

int main(void)
{
	DWORD length = sizeof reader, active;
	pthread_t threads[2];

	OK(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context));
	OK(SCardListReaders(context, NULL, reader, &length));
	OK(SCardConnect(context, reader, SCARD_SHARE_SHARED, ANY, &card, &active));
	for (int n = 0; n < 2; n++)
		pthread_create(&threads[n], NULL, busy, NULL);
	for (int n = 0; n < CHILDREN; n++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			child();
		waitpid(pid, &status, 0);
		IS(0, status);
		OK(transmit(card));
	}
	ended = 1;
	for (int n = 0; n < 2; n++)
		pthread_join(threads[n], NULL);
	OK(SCardDisconnect(card, SCARD_LEAVE_CARD));
	OK(SCardReleaseContext(context));
	puts("ok");
	return 0;
}
