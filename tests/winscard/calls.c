/*
 * What is particular to this library: SCardCancel ends calls of every kind, an answer that there was no room for is
 * kept, functions beyond pcsc-lite's. Says what went wrong and ends with 1, or "ok".
 *
 *   calls [slowly]
 *
 * Slowly: signals come so seldom that it gets on under valgrind, too.
 *
 * The reader has a PIN pad that nobody uses, and a card that speaks T=1.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <winscard.h>
#include <reader.h>
#include <more.h>

#define ANY (SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1)

static SCARDCONTEXT context, holders;
static SCARDHANDLE card, holding;
static char reader[MAX_READERNAME];
static BYTE in[MAX_BUFFER_SIZE_EXTENDED];
static const BYTE never[] = { 0x00, 0x16, 0x00, 0x00 };
/* As many bytes as it says. */
static const BYTE data[] = { 0x00, 0x12, 0x00, 0x10, 0x10 };

static void expect(int line, const char *what, unsigned long expected, unsigned long found)
{
	if (expected != found) {
		printf("calls.c:%d: %s: %lX, not %lX\n", line, what, found, expected);
		exit(1);
	}
}

#define IS(expected, call) expect(__LINE__, #call, (unsigned long)(expected), (unsigned long)(call))
#define OK(call) IS(SCARD_S_SUCCESS, call)

/* Calls that block, for a cause of their own or while another holds a transaction. */
enum kind { CHANGE, TRANSMIT, CONTROL, CONNECT, BEGIN, RECONNECT, STATUS, KINDS };

static const char *const names[KINDS] = {
	"SCardGetStatusChange", "SCardTransmit", "SCardControl", "SCardConnect", "SCardBeginTransaction",
	"SCardReconnect", "SCardStatus",
};

struct blocked {
	enum kind kind;
	LONG rv;
};

static LONG enter_pin(void)
{
	struct {
		PIN_VERIFY_STRUCTURE head;
		BYTE command[5 + 8];
	} __attribute__((packed)) pin = {
		.head = { .bmFormatString = 0x82, .bmPINBlockString = 0x08, .wPINMaxExtraDigit = 0x0408,
			.bEntryValidationCondition = 2, .bNumberMessage = 0xFF, .wLangId = 0x0409, .ulDataLength = 13 },
		.command = { 0x00, 0x20, 0x00, 0x81, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF },
	};
	PCSC_TLV_STRUCTURE tlv[16];
	DWORD length;

	OK(SCardControl(card, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, tlv, sizeof tlv, &length));
	for (DWORD n = 0; n < length / sizeof *tlv; n++)
		if (tlv[n].tag == FEATURE_VERIFY_PIN_DIRECT)
			return SCardControl(card, __builtin_bswap32(tlv[n].value), &pin, sizeof pin.head - 1 + 13 + 1, in,
				sizeof in, &length);
	return SCARD_E_UNSUPPORTED_FEATURE;
}

static void *block(void *argument)
{
	struct blocked *blocked = argument;
	SCARD_READERSTATE state = { .szReader = reader, .dwCurrentState = SCARD_STATE_PRESENT | SCARD_STATE_INUSE };
	DWORD length = sizeof in, active;
	SCARDHANDLE other;

	switch (blocked->kind) {
	case CHANGE:
		blocked->rv = SCardGetStatusChange(context, INFINITE, &state, 1);
		break;
	case TRANSMIT:
		blocked->rv = SCardTransmit(card, SCARD_PCI_T1, never, sizeof never, NULL, in, &length);
		break;
	case CONTROL:
		blocked->rv = enter_pin();
		break;
	case CONNECT:
		blocked->rv = SCardConnect(context, reader, SCARD_SHARE_SHARED, ANY, &other, &active);
		break;
	case BEGIN:
		blocked->rv = SCardBeginTransaction(card);
		break;
	case RECONNECT:
		blocked->rv = SCardReconnect(card, SCARD_SHARE_SHARED, ANY, SCARD_RESET_CARD, &active);
		break;
	default:
		blocked->rv = SCardStatus(card, NULL, NULL, NULL, NULL, NULL, NULL);
	}
	return NULL;
}

/* Cancels until the thread has ended: a call that has not begun yet is not cancelled. */
static void cancel_until_ended(pthread_t thread)
{
	struct timespec soon;

	do {
		OK(SCardCancel(context));
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_nsec += 1000000;
		if (soon.tv_nsec >= 1000000000) {
			soon.tv_nsec -= 1000000000;
			soon.tv_sec++;
		}
	} while (pthread_timedjoin_np(thread, NULL, &soon) != 0);
}

static void cancels(void)
{
	DWORD active, length;

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct blocked blocked = { .kind = kind };
		pthread_t thread;

		if (kind >= CONNECT)
			OK(SCardBeginTransaction(holding));
		pthread_create(&thread, NULL, block, &blocked);
		cancel_until_ended(thread);
		expect(__LINE__, names[kind], SCARD_E_CANCELLED, blocked.rv);
		if (kind >= CONNECT)
			OK(SCardEndTransaction(holding, SCARD_LEAVE_CARD));
		/* An aborted command may have cost the card a reset. */
		OK(SCardReconnect(card, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD, &active));
		OK(SCardReconnect(holding, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD, &active));
		length = sizeof in;
		OK(SCardTransmit(card, SCARD_PCI_T1, data, sizeof data, NULL, in, &length));
		IS(18, length);
	}
}

static DWORD count(void)
{
	LONG (*transmit_count)(SCARDHANDLE, LPDWORD);
	DWORD transmits;

	*(void **)&transmit_count = dlsym(RTLD_DEFAULT, "SCardGetTransmitCount");
	OK(transmit_count(card, &transmits));
	IS(SCARD_E_INVALID_PARAMETER, transmit_count(card, NULL));
	IS(SCARD_E_INVALID_HANDLE, transmit_count(0, &transmits));
	return transmits;
}

static LONG transmit(SCARDHANDLE handle, const BYTE *command, DWORD sent, DWORD *length)
{
	memset(in, 0xEE, sizeof in);
	return SCardTransmit(handle, SCARD_PCI_T1, command, sent, NULL, in, length);
}

static void kept_answers(void)
{
	static const BYTE echo[] = { 0x00, 0x10, 0x00, 0x00, 0x02, 0xAB, 0xCD };
	DWORD before = count(), length = 17, active;
	BYTE *allocated = NULL;

	IS(SCARD_E_INSUFFICIENT_BUFFER, transmit(card, data, sizeof data, &length));
	IS(18, length);
	IS(0xEE, in[0]);
	IS(before + 1, count());
	/* Asked again it comes, and the card is not; not even if it was too short again. */
	length = 10;
	IS(SCARD_E_INSUFFICIENT_BUFFER, transmit(card, data, sizeof data, &length));
	OK(transmit(card, data, sizeof data, &length));
	IS(18, length);
	IS(0x0F, in[15]);
	IS(0x90, in[16]);
	IS(before + 1, count());
	/* The next time it is a new command. */
	OK(transmit(card, data, sizeof data, &length));
	IS(before + 2, count());
	/* Another command forgets it, whoever sends it; so does a reset. */
	length = 17;
	IS(SCARD_E_INSUFFICIENT_BUFFER, transmit(card, data, sizeof data, &length));
	OK(transmit(holding, echo, sizeof echo, &length));
	length = sizeof in;
	OK(transmit(card, data, sizeof data, &length));
	IS(before + 5, count());
	length = 17;
	IS(SCARD_E_INSUFFICIENT_BUFFER, transmit(card, data, sizeof data, &length));
	length = sizeof in;
	OK(transmit(card, echo, sizeof echo, &length));
	length = sizeof in;
	OK(transmit(card, data, sizeof data, &length));
	IS(before + 8, count());
	length = 17;
	IS(SCARD_E_INSUFFICIENT_BUFFER, transmit(card, data, sizeof data, &length));
	OK(SCardReconnect(card, SCARD_SHARE_SHARED, ANY, SCARD_RESET_CARD, &active));
	length = sizeof in;
	OK(transmit(card, data, sizeof data, &length));
	IS(before + 10, count());
	/* Another's reset is told. */
	length = 17;
	IS(SCARD_E_INSUFFICIENT_BUFFER, transmit(card, data, sizeof data, &length));
	OK(SCardReconnect(holding, SCARD_SHARE_SHARED, ANY, SCARD_RESET_CARD, &active));
	IS(SCARD_W_RESET_CARD, transmit(card, data, sizeof data, &length));
	OK(SCardReconnect(card, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD, &active));
	length = SCARD_AUTOALLOCATE;
	OK(SCardTransmit(card, SCARD_PCI_T1, data, sizeof data, NULL, (LPBYTE)&allocated, &length));
	IS(18, length);
	IS(0x0F, allocated[15]);
	OK(SCardFreeMemory(context, allocated));
	/* Control codes likewise. */
	IS(SCARD_E_INSUFFICIENT_BUFFER,
		SCardControl(card, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, 1, &length));
	active = length;
	OK(SCardControl(card, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, in, active, &length));
	IS(active, length);
}

static void constants(void)
{
	SCARD_IO_REQUEST *constant = (SCARD_IO_REQUEST *)SCARD_PCI_T0;
	DWORD length = sizeof in;

	OK(SCardTransmit(card, SCARD_PCI_T1, data, sizeof data, constant, in, &length));
	IS(SCARD_PROTOCOL_T0, SCARD_PCI_T0->dwProtocol);
	IS(sizeof *constant, SCARD_PCI_T0->cbPciLength);
	IS(SCARD_E_INVALID_PARAMETER, SCardListReaderGroups(context, NULL, NULL));
}

static void more(void)
{
	LONG (*locate)(SCARDCONTEXT, LPSCARD_ATRMASK, DWORD, SCARD_READERSTATE *, DWORD);
	LONG (*type)(SCARDCONTEXT, LPCSTR, LPDWORD);
	SCARD_READERSTATE state = { .szReader = reader };
	SCARD_ATRMASK mask = { 0 };
	DWORD kind = 0;

	*(void **)&locate = dlsym(RTLD_DEFAULT, "SCardLocateCardsByATR");
	*(void **)&type = dlsym(RTLD_DEFAULT, "SCardGetDeviceTypeIdA");
	mask.cbAtr = MAX_ATR_SIZE;
	OK(SCardStatus(card, NULL, NULL, NULL, NULL, mask.rgbAtr, &mask.cbAtr));
	memset(mask.rgbMask, 0xFF, sizeof mask.rgbMask);
	mask.rgbAtr[2] ^= 1;
	OK(locate(context, &mask, 1, &state, 1));
	IS(0, state.dwEventState & SCARD_STATE_ATRMATCH);
	mask.rgbMask[2] = 0xFE;
	OK(locate(context, &mask, 1, &state, 1));
	IS(SCARD_STATE_ATRMATCH, state.dwEventState & SCARD_STATE_ATRMATCH);
	OK(locate(context, NULL, 0, &state, 1));
	IS(SCARD_E_INVALID_PARAMETER, locate(context, NULL, 1, &state, 1));
	mask.cbAtr = 37;
	IS(SCARD_E_INVALID_PARAMETER, locate(context, &mask, 1, &state, 1));
	OK(type(context, reader, &kind));
	IS(SCARD_READER_TYPE_USB, kind);
	IS(SCARD_E_UNKNOWN_READER, type(context, "No such reader", &kind));
	IS(SCARD_E_INVALID_PARAMETER, type(context, NULL, &kind));
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	(void)number;
	/* The first ones do not matter to the wait. */
	if (++signals >= 3)
		SCardCancel(context);
}

static void signals_while_waiting(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval often = { .it_interval = { .tv_usec = 2000 }, .it_value = { .tv_usec = 2000 } };
	struct itimerval none = { .it_value = { 0 } };
	struct blocked blocked = { .kind = CHANGE };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	block(&blocked);
	setitimer(ITIMER_REAL, &none, NULL);
	IS(SCARD_E_CANCELLED, blocked.rv);
	IS(1, signals >= 3);
}

/* Handlers that cancel, while the same thread is anywhere in the library. */
static void signals_at_any_time(int slowly)
{
	int interval = slowly ? 5000 : 50, rounds = slowly ? 1000 : 20000;
	struct itimerval often = { .it_interval = { .tv_usec = interval }, .it_value = { .tv_usec = interval } };
	struct itimerval none = { .it_value = { 0 } };
	SCARD_READERSTATE state = { .szReader = reader };

	setitimer(ITIMER_REAL, &often, NULL);
	for (int n = 0; n < rounds; n++) {
		LONG rv = SCardGetStatusChange(context, 0, &state, 1);

		if (rv != SCARD_S_SUCCESS && rv != SCARD_E_CANCELLED)
			IS(SCARD_S_SUCCESS, rv);
	}
	setitimer(ITIMER_REAL, &none, NULL);
}

int main(int argc, char **argv)
{
	DWORD length = sizeof reader, active;

	OK(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context));
	OK(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &holders));
	OK(SCardListReaders(context, NULL, reader, &length));
	OK(SCardConnect(context, reader, SCARD_SHARE_SHARED, ANY, &card, &active));
	OK(SCardConnect(holders, reader, SCARD_SHARE_SHARED, ANY, &holding, &active));
	cancels();
	kept_answers();
	constants();
	more();
	signals_while_waiting();
	signals_at_any_time(argc > 1 && strcmp(argv[1], "slowly") == 0);
	OK(SCardReleaseContext(context));
	OK(SCardReleaseContext(holders));
	puts("ok");
	return 0;
}
