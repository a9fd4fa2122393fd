/*
 * Loaded beforehand, it has a program begin when there is a card in the reader: as if its user had put it in before. A
 * reader that is part of the program's own process is not there earlier.
 */
#include <stdio.h>
#include <stdlib.h>
#include <winscard.h>

/* The context stays: the reader is there for as long as the program. */
__attribute__((constructor)) static void wait_for_card(void)
{
	SCARDCONTEXT context;
	char reader[MAX_READERNAME];
	DWORD length = sizeof reader;
	SCARD_READERSTATE state = { .szReader = reader };
	LONG rv = SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context);

	if (rv == SCARD_S_SUCCESS)
		rv = SCardListReaders(context, NULL, reader, &length);
	while (rv == SCARD_S_SUCCESS && !(state.dwEventState & SCARD_STATE_PRESENT)) {
		state.dwCurrentState = state.dwEventState;
		rv = SCardGetStatusChange(context, INFINITE, &state, 1);
	}
	if (rv != SCARD_S_SUCCESS) {
		fprintf(stderr, "no card: %s\n", pcsc_stringify_error(rv));
		exit(1);
	}
}
