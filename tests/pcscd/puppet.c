/*
 * A PC/SC program that does what it is told by lines of its standard input, fields separated by
 * tabs, and answers each with a line: the return code in hexadecimal digits, then what there is,
 * separated by tabs. It has one context and one handle.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winscard.h>
#include <reader.h>

#define MAX_FIELDS 8
#define MAX_DATA MAX_BUFFER_SIZE_EXTENDED

static SCARDCONTEXT context;
static SCARDHANDLE card;
static DWORD protocol;
static BYTE out[MAX_DATA], in[MAX_DATA];
static char line[4 * MAX_DATA];

static DWORD bytes(const char *hex)
{
	DWORD n = 0;
	unsigned value;

	while (n < MAX_DATA && sscanf(hex + 2 * n, "%2x", &value) == 1)
		out[n++] = (BYTE)value;
	return n;
}

static void code(LONG rv)
{
	printf("%08lX", (unsigned long)rv);
}

static void data(LONG rv, DWORD length)
{
	code(rv);
	putchar('\t');
	for (DWORD n = 0; rv == SCARD_S_SUCCESS && n < length; n++)
		printf("%02X", in[n]);
}

static unsigned long number(const char *text)
{
	return strtoul(text, NULL, 16);
}

static DWORD share(const char *text)
{
	switch (text[0]) {
	case 'e': return SCARD_SHARE_EXCLUSIVE;
	case 'd': return SCARD_SHARE_DIRECT;
	default: return SCARD_SHARE_SHARED;
	}
}

static const SCARD_IO_REQUEST *pci(void)
{
	switch (protocol) {
	case SCARD_PROTOCOL_T0: return SCARD_PCI_T0;
	case SCARD_PROTOCOL_T1: return SCARD_PCI_T1;
	default: return SCARD_PCI_RAW;
	}
}

static LONG transmit(DWORD length, DWORD *received)
{
	*received = sizeof in;
	return SCardTransmit(card, pci(), out, length, NULL, in, received);
}

static void list(void)
{
	static char names[16 * MAX_READERNAME];
	DWORD length = sizeof names;
	LONG rv = SCardListReaders(context, NULL, names, &length);

	code(rv);
	for (char *name = names; rv == SCARD_S_SUCCESS && *name; name += strlen(name) + 1)
		printf("\t%s", name);
}

static void status(void)
{
	DWORD state = 0, atr = MAX_ATR_SIZE, name = 0;
	LONG rv = SCardStatus(card, NULL, &name, &state, &protocol, in, &atr);

	data(rv, atr);
	printf("\t%lX\t%lX", state & 0xFFFF, protocol);
}

/* NAME STATE MS: waits for a change */
static void wait_for(char **field)
{
	SCARD_READERSTATE state;
	LONG rv;

	memset(&state, 0, sizeof state);
	state.szReader = field[1];
	state.dwCurrentState = number(field[2]);
	rv = SCardGetStatusChange(context, strtoul(field[3], NULL, 10), &state, 1);
	code(rv);
	printf("\t%lX", state.dwEventState);
}

/* NAME COUNT: connects, exchanges and disconnects so often; says how often it went well */
static void rounds(char **field)
{
	unsigned long count = strtoul(field[2], NULL, 10), done;
	LONG rv = SCARD_S_SUCCESS;

	for (done = 0; done < count; done++) {
		DWORD received;

		rv = SCardConnect(context, field[1], SCARD_SHARE_SHARED,
			SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1, &card, &protocol);
		if (rv != SCARD_S_SUCCESS)
			break;
		/* As many bytes as this says, and counting: every answer is another. */
		memcpy(out, "\x00\x12\x00", 3);
		out[3] = out[4] = (BYTE)(1 + done % 200);
		rv = transmit(5, &received);
		if (rv == SCARD_S_SUCCESS && (received != out[4] + 2u || in[received - 3] != out[4] - 1
				|| memcmp(in + received - 2, "\x90\x00", 2)))
			rv = SCARD_F_COMM_ERROR;
		SCardDisconnect(card, SCARD_LEAVE_CARD);
		if (rv != SCARD_S_SUCCESS)
			break;
	}
	code(rv);
	printf("\t%lu", done);
}

static void obey(int count, char **field)
{
	const char *verb = field[0];
	DWORD length = sizeof in, sent;
	LONG rv;

	if (!strcmp(verb, "list")) {
		list();
	} else if (!strcmp(verb, "connect") && count == 4) { /* NAME SHARE PROTOCOLS */
		rv = SCardConnect(context, field[1], share(field[2]), number(field[3]), &card, &protocol);
		code(rv);
		printf("\t%lX", protocol);
	} else if (!strcmp(verb, "reconnect") && count == 4) { /* SHARE PROTOCOLS INITIALIZATION */
		rv = SCardReconnect(card, share(field[1]), number(field[2]), number(field[3]), &protocol);
		code(rv);
		printf("\t%lX", protocol);
	} else if (!strcmp(verb, "disconnect") && count == 2) { /* DISPOSITION */
		code(SCardDisconnect(card, number(field[1])));
	} else if (!strcmp(verb, "status")) {
		status();
	} else if (!strcmp(verb, "transmit") && count == 2) { /* BYTES */
		rv = transmit(bytes(field[1]), &length);
		data(rv, length);
	} else if (!strcmp(verb, "control") && count >= 2) { /* CODE BYTES */
		sent = count > 2 ? bytes(field[2]) : 0;
		length = 0;
		rv = SCardControl(card, number(field[1]), out, sent, in, sizeof in, &length);
		data(rv, length);
	} else if (!strcmp(verb, "get") && count == 2) { /* ATTRIBUTE */
		length = MAX_BUFFER_SIZE;
		rv = SCardGetAttrib(card, number(field[1]), in, &length);
		data(rv, length);
	} else if (!strcmp(verb, "set") && count == 3) { /* ATTRIBUTE BYTES */
		code(SCardSetAttrib(card, number(field[1]), out, bytes(field[2])));
	} else if (!strcmp(verb, "begin")) {
		code(SCardBeginTransaction(card));
	} else if (!strcmp(verb, "end") && count == 2) { /* DISPOSITION */
		code(SCardEndTransaction(card, number(field[1])));
	} else if (!strcmp(verb, "wait") && count == 4) {
		wait_for(field);
	} else if (!strcmp(verb, "rounds") && count == 3) {
		rounds(field);
	} else {
		printf("what?");
	}
}

int main(void)
{
	LONG rv = SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context);

	setvbuf(stdout, NULL, _IOLBF, 0);
	code(rv);
	putchar('\n');
	while (rv == SCARD_S_SUCCESS && fgets(line, sizeof line, stdin)) {
		char *field[MAX_FIELDS + 1] = { 0 };
		int count = 0;

		line[strcspn(line, "\n")] = 0;
		for (char *word = strtok(line, "\t"); word && count < MAX_FIELDS; word = strtok(NULL, "\t"))
			field[count++] = word;
		if (count > 0)
			obey(count, field);
		putchar('\n');
	}
	SCardReleaseContext(context);
	return rv != SCARD_S_SUCCESS;
}
