/*
 * Calls every function of winscard.h, rightly and wrongly, and writes down what it returns: a line for each call,
 * what was called and then codes, lengths and states in hexadecimal digits. Two libraries on the same simulated card
 * write the same, but for what is known to differ.
 *
 *   transcript SOCKET
 *
 * SOCKET: where the simulated reader's hands listen. Its card speaks T=1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <winscard.h>
#include <reader.h>

#define ANY (SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1)

static SCARDCONTEXT context;
static SCARDHANDLE card, other;
static char reader[MAX_READERNAME];
static BYTE in[MAX_BUFFER_SIZE_EXTENDED];
static const BYTE echo[] = { 0x00, 0x10, 0x00, 0x00, 0x02, 0xAB, 0xCD };

static void fail(const char *what)
{
	fprintf(stderr, "transcript: %s\n", what);
	exit(1);
}

/* One call: what, its code; more follows until the end of the line. */
static LONG code(const char *what, LONG rv)
{
	printf("\n%s: %08lX", what, (unsigned long)rv);
	return rv;
}

static void number(const char *what, unsigned long value)
{
	printf(" %s=%lX", what, value);
}

static void bytes(const BYTE *data, DWORD length)
{
	putchar(' ');
	for (DWORD n = 0; n < length; n++)
		printf("%02X", data[n]);
}

/* Lengths in which the reader's name is, without it. */
static void beyond_name(DWORD length)
{
	printf(" name%+ld", (long)length - (long)strlen(reader));
}

static void hand(int hands, const char *line)
{
	char answer[4096];
	size_t got = 0;

	if (write(hands, line, strlen(line)) < 0)
		fail(line);
	while (got < 3 || memcmp(answer + got - 3, "ok\n", 3) != 0) {
		ssize_t n = read(hands, answer + got, sizeof answer - got);

		if (n <= 0 || got + n == sizeof answer || memcmp(answer, "error", 5) == 0)
			fail(line);
		got += n;
	}
}

static int open_hands(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int hands = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	if (connect(hands, (struct sockaddr *)&address, sizeof address) != 0)
		fail(path);
	return hands;
}

static void contexts(void)
{
	SCARDCONTEXT second = 0;

	code("establish without a place", SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, NULL));
	code("establish, no scope", SCardEstablishContext(9, NULL, NULL, &second));
	number("context", second);
	for (DWORD scope = SCARD_SCOPE_USER; scope <= SCARD_SCOPE_GLOBAL; scope++) {
		code("establish", SCardEstablishContext(scope, NULL, NULL, &second));
		number("positive in 32 bits", second > 0 && second <= 0x7FFFFFFF);
		code("valid", SCardIsValidContext(second));
		code("cancel, nothing outstanding", SCardCancel(second));
		code("release", SCardReleaseContext(second));
		code("valid when released", SCardIsValidContext(second));
		code("release again", SCardReleaseContext(second));
		code("cancel when released", SCardCancel(second));
	}
	code("valid 0", SCardIsValidContext(0));
	code("release 0", SCardReleaseContext(0));
	code("cancel 0", SCardCancel(0));
	code("free, context 0", SCardFreeMemory(0, NULL));
	code("establish", SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context));
	code("free nothing", SCardFreeMemory(context, NULL));
	code("valid, other bits", SCardIsValidContext(context | 1L << 40));
}

static void listing(void)
{
	static char names[16 * MAX_READERNAME];
	char *allocated = NULL;
	DWORD length = sizeof names, needed;

	if (SCardListReaders(context, NULL, names, &length) != SCARD_S_SUCCESS)
		fail("there is no reader");
	strcpy(reader, names);
	code("list without a length", SCardListReaders(context, NULL, names, NULL));
	length = sizeof names;
	code("list, context 0", SCardListReaders(0, NULL, names, &length));
	code("list, length", SCardListReaders(context, NULL, NULL, &length));
	beyond_name(length);
	needed = length;
	memset(names, 'x', sizeof names);
	code("list, exact", SCardListReaders(context, NULL, names, &length));
	beyond_name(length);
	number("ends", names[needed - 1] == 0 && names[needed - 2] == 0 && names[needed] == 'x');
	length = needed - 1;
	code("list, one short", SCardListReaders(context, NULL, names, &length));
	beyond_name(length);
	length = SCARD_AUTOALLOCATE;
	code("list, allocated", SCardListReaders(context, NULL, (LPSTR)&allocated, &length));
	beyond_name(length);
	number("same", strcmp(allocated, reader) == 0);
	code("free", SCardFreeMemory(context, allocated));
	length = SCARD_AUTOALLOCATE;
	code("list, nowhere to allocate", SCardListReaders(context, NULL, NULL, &length));
	length = sizeof names;
	code("list, default group", SCardListReaders(context, "SCard$DefaultReaders", names, &length));
	beyond_name(length);
	length = sizeof names;
	code("list, empty group", SCardListReaders(context, "", names, &length));
	beyond_name(length);
	code("groups, length", SCardListReaderGroups(context, NULL, &length));
	number("length", length);
	length--;
	code("groups, one short", SCardListReaderGroups(context, names, &length));
	number("length", length);
	code("groups", SCardListReaderGroups(context, names, &length));
	printf(" %s", names);
	length = SCARD_AUTOALLOCATE;
	code("groups, allocated", SCardListReaderGroups(context, (LPSTR)&allocated, &length));
	printf(" %s", allocated);
	SCardFreeMemory(context, allocated);
}

static void state_of(const SCARD_READERSTATE *state)
{
	number("event", state->dwEventState & 0xFFFF);
	number("atr", state->cbAtr);
}

static void change(const char *what, DWORD current, DWORD timeout)
{
	SCARD_READERSTATE state = { .szReader = reader, .pvUserData = &state, .dwCurrentState = current, .cbAtr = 99 };

	code(what, SCardGetStatusChange(context, timeout, &state, 1));
	state_of(&state);
	number("user data kept", state.pvUserData == &state);
}

static void changes(void)
{
	SCARD_READERSTATE state = { .szReader = reader }, many[11];

	code("change of nothing", SCardGetStatusChange(context, INFINITE, NULL, 0));
	code("change of nothing, context 0", SCardGetStatusChange(0, INFINITE, &state, 0));
	code("change without states", SCardGetStatusChange(context, 0, NULL, 1));
	code("change, context 0", SCardGetStatusChange(0, 0, &state, 1));
	change("change, unaware", SCARD_STATE_UNAWARE, 0);
	change("change, unaware, for ever", SCARD_STATE_UNAWARE, INFINITE);
	change("change, known", SCARD_STATE_PRESENT, 0);
	change("change, known, shortly", SCARD_STATE_PRESENT, 20);
	change("change, wrongly known", SCARD_STATE_EMPTY, INFINITE);
	change("change, unknown", SCARD_STATE_UNKNOWN, INFINITE);
	change("change, unavailable", SCARD_STATE_UNAVAILABLE, INFINITE);
	change("change, changed and known", SCARD_STATE_PRESENT | SCARD_STATE_CHANGED, 0);
	change("change, ignored", SCARD_STATE_IGNORE, INFINITE);
	change("change, another count", SCARD_STATE_PRESENT | 0x7FFF0000, INFINITE);
	state.szReader = NULL;
	code("change, no name", SCardGetStatusChange(context, 0, &state, 1));
	state.szReader = "No such reader";
	code("change, no such reader", SCardGetStatusChange(context, INFINITE, &state, 1));
	state.szReader = "\\\\?PnP?\\Notification";
	code("change of readers", SCardGetStatusChange(context, 0, &state, 1));
	number("changed", state.dwEventState & SCARD_STATE_CHANGED);
	memset(many, 0, sizeof many);
	for (int n = 0; n < 11; n++)
		many[n].szReader = reader;
	code("change of eleven", SCardGetStatusChange(context, INFINITE, many, 11));
	state_of(&many[10]);
}

static LONG join(const char *what, const char *name, DWORD share, DWORD protocols, SCARDHANDLE *handle)
{
	DWORD active = 0x77;
	LONG rv = code(what, SCardConnect(context, name, share, protocols, handle, &active));

	number("handle", *handle != 0);
	number("active", active);
	return rv;
}

static void connects(void)
{
	static char longer[2 * MAX_READERNAME];
	SCARDHANDLE none = 0x55;
	DWORD active;

	memset(longer, 'x', sizeof longer - 1);
	code("connect, no handle", SCardConnect(context, reader, SCARD_SHARE_SHARED, ANY, NULL, &active));
	code("connect, no protocol", SCardConnect(context, reader, SCARD_SHARE_SHARED, ANY, &none, NULL));
	code("connect, context 0", SCardConnect(0, reader, SCARD_SHARE_SHARED, ANY, &none, &active));
	join("connect, no reader", NULL, SCARD_SHARE_SHARED, ANY, &none);
	join("connect, no such reader", "No such reader", SCARD_SHARE_SHARED, ANY, &none);
	join("connect, name too long", longer, SCARD_SHARE_SHARED, ANY, &none);
	join("connect, share mode 0", reader, 0, ANY, &none);
	join("connect, share mode 4", reader, 4, ANY, &none);
	join("connect, no protocols", reader, SCARD_SHARE_SHARED, 0, &none);
	join("connect, T=15", reader, SCARD_SHARE_SHARED, SCARD_PROTOCOL_T15, &none);
	join("connect, T=0", reader, SCARD_SHARE_SHARED, SCARD_PROTOCOL_T0, &none);
	join("connect", reader, SCARD_SHARE_SHARED, ANY, &card);
	number("positive in 32 bits", card > 0 && card <= 0x7FFFFFFF);
	join("connect, exclusive while shared", reader, SCARD_SHARE_EXCLUSIVE, ANY, &none);
	join("connect, second", reader, SCARD_SHARE_SHARED, SCARD_PROTOCOL_T1, &other);
	code("disconnect, no disposition", SCardDisconnect(other, 9));
	code("disconnect", SCardDisconnect(other, SCARD_LEAVE_CARD));
	code("disconnect again", SCardDisconnect(other, SCARD_LEAVE_CARD));
	join("connect, direct", reader, SCARD_SHARE_DIRECT, 0, &other);
	code("disconnect", SCardDisconnect(other, SCARD_LEAVE_CARD));
	code("disconnect", SCardDisconnect(card, SCARD_LEAVE_CARD));
	join("connect, exclusive", reader, SCARD_SHARE_EXCLUSIVE, ANY, &card);
	join("connect, shared while exclusive", reader, SCARD_SHARE_SHARED, ANY, &none);
	join("connect, direct while exclusive", reader, SCARD_SHARE_DIRECT, 0, &none);
	code("disconnect, eject", SCardDisconnect(card, SCARD_EJECT_CARD));
	join("connect", reader, SCARD_SHARE_SHARED, ANY, &card);
}

static void status(const char *what, SCARDHANDLE handle)
{
	char name[MAX_READERNAME] = "";
	DWORD name_length = sizeof name, state = 0x77, protocol = 0x77, atr_length = MAX_ATR_SIZE;

	if (code(what, SCardStatus(handle, name, &name_length, &state, &protocol, in, &atr_length)) == SCARD_S_SUCCESS) {
		beyond_name(name_length);
		bytes(in, atr_length);
	}
	number("state", state & 0xFFFF);
	number("protocol", protocol);
}

static void statuses(void)
{
	char *name = NULL, small[4];
	BYTE *atr = NULL;
	DWORD name_length, atr_length;

	status("status", card);
	status("status, handle 0", 0);
	code("status of nothing", SCardStatus(card, NULL, NULL, NULL, NULL, NULL, NULL));
	name_length = atr_length = 0;
	code("status, lengths", SCardStatus(card, NULL, &name_length, NULL, NULL, NULL, &atr_length));
	beyond_name(name_length);
	number("atr", atr_length);
	name_length = sizeof small;
	atr_length = 4;
	code("status, too short", SCardStatus(card, small, &name_length, NULL, NULL, in, &atr_length));
	beyond_name(name_length);
	number("atr", atr_length);
	code("status, buffer without a length", SCardStatus(card, small, NULL, NULL, NULL, NULL, NULL));
	name_length = atr_length = SCARD_AUTOALLOCATE;
	code("status, allocated", SCardStatus(card, (LPSTR)&name, &name_length, NULL, NULL, (LPBYTE)&atr, &atr_length));
	beyond_name(name_length);
	number("same", strcmp(name, reader) == 0);
	bytes(atr, atr_length);
	code("free", SCardFreeMemory(context, name));
	code("free", SCardFreeMemory(context, atr));
}

static void attribute(const char *what, DWORD id, DWORD room)
{
	DWORD length = room;

	if (code(what, SCardGetAttrib(card, id, in, &length)) == SCARD_S_SUCCESS)
		bytes(in, length);
	else
		number("length", length);
}

static void attributes(void)
{
	BYTE *allocated = NULL;
	DWORD length = 0;

	code("attribute without a length", SCardGetAttrib(card, SCARD_ATTR_ATR_STRING, in, NULL));
	code("attribute, handle 0", SCardGetAttrib(0, SCARD_ATTR_ATR_STRING, in, &length));
	code("attribute, length", SCardGetAttrib(card, SCARD_ATTR_ATR_STRING, NULL, &length));
	number("length", length);
	attribute("attribute, ATR", SCARD_ATTR_ATR_STRING, MAX_ATR_SIZE);
	attribute("attribute, too short", SCARD_ATTR_ATR_STRING, 4);
	attribute("attribute, long buffer", SCARD_ATTR_ATR_STRING, 1000);
	attribute("attribute, presence", SCARD_ATTR_ICC_PRESENCE, 8);
	attribute("attribute, interface status", SCARD_ATTR_ICC_INTERFACE_STATUS, 8);
	attribute("attribute, unknown", 0x12345, 8);
	length = SCARD_AUTOALLOCATE;
	if (code("attribute, allocated", SCardGetAttrib(card, SCARD_ATTR_ATR_STRING, (LPBYTE)&allocated, &length)) ==
			SCARD_S_SUCCESS)
		bytes(allocated, length);
	SCardFreeMemory(context, allocated);
	length = SCARD_AUTOALLOCATE;
	code("attribute, nowhere to allocate", SCardGetAttrib(card, SCARD_ATTR_ATR_STRING, NULL, &length));
	code("set attribute, nothing", SCardSetAttrib(card, 0x12345, NULL, 0));
	code("set attribute, handle 0", SCardSetAttrib(0, 0x12345, echo, 1));
	code("set attribute, unknown", SCardSetAttrib(card, 0x12345, echo, 1));
}

static void transmit(const char *what, SCARDHANDLE handle, const SCARD_IO_REQUEST *pci, DWORD room)
{
	DWORD length = room;
	LONG rv = code(what, SCardTransmit(handle, pci, echo, sizeof echo, NULL, in, &length));

	if (rv == SCARD_S_SUCCESS)
		bytes(in, length);
	else
		number("length", length);
}

static void transmits(void)
{
	static BYTE huge[MAX_BUFFER_SIZE_EXTENDED + 1];
	SCARD_IO_REQUEST pci = { 0x77, 0x77 };
	DWORD length = sizeof in;

	code("transmit, no PCI", SCardTransmit(card, NULL, echo, sizeof echo, NULL, in, &length));
	code("transmit, nothing", SCardTransmit(card, SCARD_PCI_T1, NULL, 0, NULL, in, &length));
	code("transmit, no buffer", SCardTransmit(card, SCARD_PCI_T1, echo, sizeof echo, NULL, NULL, &length));
	code("transmit, no length", SCardTransmit(card, SCARD_PCI_T1, echo, sizeof echo, NULL, in, NULL));
	code("transmit, too much", SCardTransmit(card, SCARD_PCI_T1, huge, sizeof huge, NULL, in, &length));
	transmit("transmit, handle 0", 0, SCARD_PCI_T1, sizeof in);
	transmit("transmit", card, SCARD_PCI_T1, sizeof in);
	transmit("transmit, T=0", card, SCARD_PCI_T0, sizeof in);
	transmit("transmit, exact", card, SCARD_PCI_T1, 4);
	transmit("transmit, no room for a status word", card, SCARD_PCI_T1, 1);
	transmit("transmit, one short", card, SCARD_PCI_T1, 3);
	transmit("transmit, again", card, SCARD_PCI_T1, 4);
	length = 3;
	code("transmit, one short", SCardTransmit(card, SCARD_PCI_T1, echo, sizeof echo, NULL, in, &length));
	number("needed", length);
	length = sizeof in;
	code("transmit, receive PCI", SCardTransmit(card, SCARD_PCI_T1, echo, sizeof echo, &pci, in, &length));
	number("protocol", pci.dwProtocol);
	number("length", pci.cbPciLength);
	memcpy(in, echo, sizeof echo);
	length = sizeof in;
	code("transmit in place", SCardTransmit(card, SCARD_PCI_T1, in, sizeof echo, NULL, in, &length));
	bytes(in, length);
}

static void controls(void)
{
	DWORD length = 0x77;

	code("control, handle 0", SCardControl(0, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, sizeof in, &length));
	number("returned", length);
	if (code("control, features", SCardControl(card, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, sizeof in, &length)) ==
			SCARD_S_SUCCESS)
		bytes(in, length);
	code("control, no length", SCardControl(card, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, sizeof in, NULL));
	code("control, too short", SCardControl(card, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, 1, &length));
	code("control, unknown", SCardControl(card, SCARD_CTL_CODE(77), NULL, 0, in, sizeof in, &length));
	number("returned", length);
}

static void transactions(void)
{
	DWORD length = 0;

	join("connect, second", reader, SCARD_SHARE_SHARED, ANY, &other);
	code("begin, handle 0", SCardBeginTransaction(0));
	code("end, handle 0", SCardEndTransaction(0, SCARD_LEAVE_CARD));
	code("end, none begun", SCardEndTransaction(card, SCARD_LEAVE_CARD));
	code("begin", SCardBeginTransaction(card));
	code("begin within", SCardBeginTransaction(card));
	transmit("transmit within", card, SCARD_PCI_T1, sizeof in);
	code("end of another", SCardEndTransaction(other, SCARD_LEAVE_CARD));
	code("control meanwhile", SCardControl(other, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, sizeof in, &length));
	length = sizeof in;
	code("set attribute meanwhile", SCardSetAttrib(other, 0x12345, echo, 1));
	code("disconnect meanwhile", SCardDisconnect(other, SCARD_LEAVE_CARD));
	code("end, no disposition", SCardEndTransaction(card, 9));
	code("end of inner", SCardEndTransaction(card, SCARD_LEAVE_CARD));
	code("end", SCardEndTransaction(card, SCARD_LEAVE_CARD));
	code("end, too often", SCardEndTransaction(card, SCARD_LEAVE_CARD));
}

static void again(const char *what, DWORD share, DWORD protocols, DWORD how)
{
	DWORD active = 0x77;

	code(what, SCardReconnect(card, share, protocols, how, &active));
	number("active", active);
}

static void reconnects(void)
{
	DWORD active;

	join("connect, second", reader, SCARD_SHARE_SHARED, ANY, &other);
	code("reconnect, handle 0", SCardReconnect(0, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD, &active));
	code("reconnect, no protocol", SCardReconnect(card, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD, NULL));
	again("reconnect, share mode 9", 9, ANY, SCARD_LEAVE_CARD);
	again("reconnect, no initialization", SCARD_SHARE_SHARED, ANY, 9);
	again("reconnect, eject", SCARD_SHARE_SHARED, ANY, SCARD_EJECT_CARD);
	again("reconnect, no protocols", SCARD_SHARE_SHARED, 0, SCARD_LEAVE_CARD);
	again("reconnect", SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD);
	again("reconnect, reset", SCARD_SHARE_SHARED, ANY, SCARD_RESET_CARD);
	transmit("transmit", card, SCARD_PCI_T1, sizeof in);
	transmit("transmit, other was reset", other, SCARD_PCI_T1, sizeof in);
	status("status, other was reset", other);
	code("begin, other was reset", SCardBeginTransaction(other));
	code("reconnect, other", SCardReconnect(other, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD, &active));
	transmit("transmit, other", other, SCARD_PCI_T1, sizeof in);
	again("reconnect, unpower", SCARD_SHARE_SHARED, ANY, SCARD_UNPOWER_CARD);
	transmit("transmit", card, SCARD_PCI_T1, sizeof in);
	code("disconnect", SCardDisconnect(other, SCARD_LEAVE_CARD));
	code("begin", SCardBeginTransaction(card));
	code("end, reset", SCardEndTransaction(card, SCARD_RESET_CARD));
	again("reconnect", SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD);
	status("status", card);
}

/* Waits until there is a card that is ready, or none. */
static void until(DWORD flag)
{
	SCARD_READERSTATE state = { .szReader = reader };

	do {
		if (SCardGetStatusChange(context, INFINITE, &state, 1) != SCARD_S_SUCCESS)
			fail("wait");
		state.dwCurrentState = state.dwEventState & ~SCARD_STATE_CHANGED;
	} while (!(state.dwEventState & flag));
}

static void removal(int hands)
{
	hand(hands, "remove\n");
	until(SCARD_STATE_EMPTY);
	change("change, unaware, no card", SCARD_STATE_UNAWARE, 0);
	change("change, known, no card", SCARD_STATE_EMPTY, 0);
	transmit("transmit, card removed", card, SCARD_PCI_T1, sizeof in);
	status("status, card removed", card);
	code("begin, card removed", SCardBeginTransaction(card));
	code("end, card removed", SCardEndTransaction(card, SCARD_LEAVE_CARD));
	again("reconnect, card removed", SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD);
	code("disconnect, card removed", SCardDisconnect(card, SCARD_LEAVE_CARD));
	join("connect, no card", reader, SCARD_SHARE_SHARED, ANY, &card);
	join("connect, direct, no card", reader, SCARD_SHARE_DIRECT, 0, &card);
	status("status, direct, no card", card);
	attribute("attribute, presence, no card", SCARD_ATTR_ICC_PRESENCE, 8);
	attribute("attribute, interface status, no card", SCARD_ATTR_ICC_INTERFACE_STATUS, 8);
	attribute("attribute, ATR, no card", SCARD_ATTR_ATR_STRING, MAX_ATR_SIZE);
	code("control, no card", SCardControl(card, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, sizeof in, NULL));
	code("disconnect", SCardDisconnect(card, SCARD_LEAVE_CARD));
	hand(hands, "insert\n");
	until(SCARD_STATE_PRESENT);
	join("connect, card is back", reader, SCARD_SHARE_SHARED, ANY, &card);
	transmit("transmit, card is back", card, SCARD_PCI_T1, sizeof in);
}

static void texts(void)
{
	for (LONG rv = 0x80100000; rv <= 0x80100070; rv++)
		if (!pcsc_stringify_error(rv)[0])
			fail("no text");
	if (!strstr(pcsc_stringify_error(0x12345), "12345"))
		fail("an unknown code is not named");
}

int main(int argc, char **argv)
{
	int hands;

	if (argc != 2) {
		fprintf(stderr, "usage: transcript SOCKET\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	contexts();
	hands = open_hands(argv[1]);
	listing();
	changes();
	connects();
	statuses();
	attributes();
	transmits();
	controls();
	transactions();
	reconnects();
	removal(hands);
	texts();
	code("release", SCardReleaseContext(context));
	status("status, context released", card);
	code("disconnect, context released", SCardDisconnect(card, SCARD_LEAVE_CARD));
	putchar('\n');
	return 0;
}
