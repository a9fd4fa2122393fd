/*
 * How long a PC/SC library takes, whichever it is: a round trip, a wait that is cancelled, a card
 * that is put in.
 *
 *   latency SOCKET [DAEMON [SAMPLES]]
 *   latency first SAMPLES        programs that are started for one command and end behind its answer
 *   latency first                such a program
 *
 * SOCKET: where the simulated reader's hands listen, or - for a reader without, whose card is left
 * alone; DAEMON: process number of pcscd, whose CPU time is shown, too, or 0 for none; SAMPLES: of
 * round trips, else 2000. The reader is the first there is. Prints a line for each: what, samples,
 * p50, p99, max in microseconds.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <winscard.h>

static char reader[MAX_READERNAME];
static SCARDCONTEXT context;

static void fail(const char *what, LONG rv)
{
	fprintf(stderr, "latency: %s: %08lX\n", what, (unsigned long)rv);
	exit(1);
}

static void check(const char *what, LONG rv)
{
	if (rv != SCARD_S_SUCCESS)
		fail(what, rv);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

/* CPU time of all of a process's threads. */
static double cpu_of(const char *process)
{
	char path[64], task[400];
	double sum = 0;
	struct dirent *entry;
	DIR *tasks;

	if (!process)
		return 0;
	snprintf(path, sizeof path, "/proc/%s/task", process);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		unsigned long long nanoseconds;
		FILE *file;

		snprintf(task, sizeof task, "%s/%s/schedstat", path, entry->d_name);
		file = fopen(task, "r");
		if (file && fscanf(file, "%llu", &nanoseconds) == 1)
			sum += nanoseconds / 1e3;
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return sum;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const char *what, double *times, int n)
{
	qsort(times, n, sizeof *times, ascending);
	printf("%-44s %8d %10.1f %10.1f %10.1f\n", what, n, times[n / 2], times[n * 99 / 100], times[n - 1]);
	fflush(stdout);
}

static void pause_us(long us)
{
	struct timespec t = { 0, us * 1000 };

	nanosleep(&t, NULL);
}

/* The hands of the reader's user. */
static int hands = -1;

static void hand(const char *line)
{
	char answer[4096];
	size_t got = 0;

	if (write(hands, line, strlen(line)) < 0)
		fail(line, errno);
	while (got < 3 || memcmp(answer + got - 3, "ok\n", 3) != 0) {
		ssize_t n = read(hands, answer + got, sizeof answer - got);

		if (n <= 0 || got + n == sizeof answer || memcmp(answer, "error", 5) == 0)
			fail(line, n);
		got += n;
	}
}

static void open_hands(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	hands = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(hands, (struct sockaddr *)&address, sizeof address) != 0)
		fail(path, 0);
}

static void find_reader(void)
{
	char names[16 * MAX_READERNAME];
	DWORD length = sizeof names;
	SCARD_READERSTATE readers = { .szReader = "\\\\?PnP?\\Notification" };
	LONG rv;

	/* A daemon that has just been started may not have it yet. */
	while ((rv = SCardListReaders(context, NULL, names, &length)) == SCARD_E_NO_READERS_AVAILABLE) {
		check("SCardGetStatusChange", SCardGetStatusChange(context, INFINITE, &readers, 1));
		length = sizeof names;
	}
	check("SCardListReaders", rv);
	names[sizeof reader - 1] = 0; /* no name is longer */
	strcpy(reader, names);
}

static void round_trips(int data, int n, const char *daemon)
{
	double *times = calloc(n, sizeof *times), before, before_daemon;
	BYTE command[5 + 255] = { 0x00, 0x10, 0x00, 0x00, (BYTE)data }, answer[MAX_BUFFER_SIZE];
	char what[96];
	SCARDHANDLE card;
	DWORD protocol;

	check("SCardConnect", SCardConnect(context, reader, SCARD_SHARE_SHARED,
					   SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1, &card, &protocol));
	before = cpu();
	before_daemon = cpu_of(daemon);
	for (int i = 0; i < n; i++) {
		DWORD length = sizeof answer;
		double began = now();

		check("SCardTransmit", SCardTransmit(card, protocol == SCARD_PROTOCOL_T0 ? SCARD_PCI_T0 : SCARD_PCI_T1,
						     command, 5 + data, NULL, answer, &length));
		times[i] = now() - began;
		if (length != (DWORD)data + 2)
			fail("response", length);
	}
	snprintf(what, sizeof what, "SCardTransmit, %d bytes", data);
	print(what, times, n);
	printf("%-44s %8d %10.1f\n", "  CPU of the program", n, (cpu() - before) / n);
	if (daemon)
		printf("%-44s %8d %10.1f\n", "  CPU of the daemon", n, (cpu_of(daemon) - before_daemon) / n);
	SCardDisconnect(card, SCARD_LEAVE_CARD);
	free(times);
}

static void status(int n)
{
	double *times = calloc(n, sizeof *times);
	SCARDHANDLE card;
	DWORD protocol;

	check("SCardConnect", SCardConnect(context, reader, SCARD_SHARE_SHARED,
					   SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1, &card, &protocol));
	for (int i = 0; i < n; i++) {
		DWORD state, length = 0;
		double began = now();

		check("SCardStatus", SCardStatus(card, NULL, &length, &state, &protocol, NULL, NULL));
		times[i] = now() - began;
	}
	print("SCardStatus", times, n);
	SCardDisconnect(card, SCARD_LEAVE_CARD);
	free(times);
}

static void contexts(int n)
{
	double *times = calloc(n, sizeof *times);

	for (int i = 0; i < n; i++) {
		SCARDCONTEXT other;
		double began = now();

		check("SCardEstablishContext", SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &other));
		check("SCardReleaseContext", SCardReleaseContext(other));
		times[i] = now() - began;
	}
	print("SCardEstablishContext and release", times, n);
	free(times);
}

struct wait {
	SCARD_READERSTATE state;
	int begun;
	LONG rv;
	double ended;
};

static void *wait_for_change(void *argument)
{
	struct wait *wait = argument;

	__atomic_store_n(&wait->begun, 1, __ATOMIC_SEQ_CST);
	wait->rv = SCardGetStatusChange(context, INFINITE, &wait->state, 1);
	wait->ended = now();
	return NULL;
}

/* What a caller knows who has looked, once the card is there or not. */
static void look(struct wait *wait, DWORD flag)
{
	memset(wait, 0, sizeof *wait);
	wait->state.szReader = reader;
	for (;;) {
		check("SCardGetStatusChange", SCardGetStatusChange(context, INFINITE, &wait->state, 1));
		wait->state.dwCurrentState = wait->state.dwEventState & ~SCARD_STATE_CHANGED;
		if ((wait->state.dwEventState & flag) && !(wait->state.dwEventState & SCARD_STATE_MUTE))
			return;
	}
}

static void cancels(int n)
{
	double *times = calloc(n, sizeof *times);

	for (int i = 0; i < n; i++) {
		struct wait wait;
		pthread_t thread;
		double began;

		look(&wait, SCARD_STATE_PRESENT);
		pthread_create(&thread, NULL, wait_for_change, &wait);
		while (!__atomic_load_n(&wait.begun, __ATOMIC_SEQ_CST))
			pause_us(100);
		/* It has to be waiting: pcsc-lite forgets a cancel that comes before. */
		pause_us(20000);
		began = now();
		check("SCardCancel", SCardCancel(context));
		pthread_join(thread, NULL);
		if (wait.rv != SCARD_E_CANCELLED)
			fail("cancelled wait", wait.rv);
		times[i] = wait.ended - began;
	}
	print("cancel of a status wait", times, n);
	free(times);
}

static void insertions(int n)
{
	double *times = calloc(n, sizeof *times);

	for (int i = 0; i < n; i++) {
		struct wait wait;
		pthread_t thread;
		double began;

		hand("remove\n");
		look(&wait, SCARD_STATE_EMPTY);
		pthread_create(&thread, NULL, wait_for_change, &wait);
		pause_us(20000);
		began = now();
		hand("insert\n");
		pthread_join(thread, NULL);
		check("wait", wait.rv);
		times[i] = wait.ended - began;
		look(&wait, SCARD_STATE_PRESENT);
	}
	print("card put in to wait's end", times, n);
	free(times);
}

/* The program's own; a daemon's is beside it. */
static void memory(void)
{
	char line[256];
	FILE *status = fopen("/proc/self/status", "r");

	while (status && fgets(line, sizeof line, status))
		if (strncmp(line, "VmRSS:", 6) == 0)
			printf("%-44s %19ld\n", "resident memory of the program, KiB", strtol(line + 6, NULL, 10));
	if (status)
		fclose(status);
}

/* What a program does that is started for one command. */
static int first(void)
{
	static const BYTE command[] = { 0x00, 0x10, 0x00, 0x00, 0x01, 0xAB };
	BYTE answer[MAX_BUFFER_SIZE];
	DWORD length = sizeof answer, protocol;
	SCARDHANDLE card;

	check("SCardEstablishContext", SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context));
	find_reader();
	check("SCardConnect", SCardConnect(context, reader, SCARD_SHARE_SHARED,
					   SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1, &card, &protocol));
	check("SCardTransmit", SCardTransmit(card, protocol == SCARD_PROTOCOL_T0 ? SCARD_PCI_T0 : SCARD_PCI_T1,
					     command, sizeof command, NULL, answer, &length));
	/* What it does at its end is not part of it. */
	_exit(0);
}

static void first_commands(int n)
{
	double *times = calloc(n, sizeof *times);

	for (int i = 0; i < n; i++) {
		int status;
		double began = now();
		pid_t pid = fork();

		if (pid == 0) {
			execl("/proc/self/exe", "latency", "first", (char *)NULL);
			_exit(127);
		}
		waitpid(pid, &status, 0);
		times[i] = now() - began;
		if (status != 0)
			fail("a program for one command", status);
	}
	print("program started to first answer", times, n);
	free(times);
}

int main(int argc, char **argv)
{
	const char *daemon = argc > 2 && strcmp(argv[2], "0") != 0 ? argv[2] : NULL;
	int last = argc > 1 && strcmp(argv[1], "first") == 0 ? 2 : 3;
	int samples = argc > last ? atoi(argv[last]) : 2000;

	if (argc < 2 || samples < 1) {
		fprintf(stderr, "usage: latency SOCKET [DAEMON [SAMPLES]]\n       latency first SAMPLES\n");
		return 2;
	}
	if (strcmp(argv[1], "first") == 0) {
		if (argc == 2)
			return first();
		first_commands(samples);
		return 0;
	}
	check("SCardEstablishContext", SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context));
	find_reader();
	printf("%-44s %8s %10s %10s %10s\n", "us", "samples", "p50", "p99", "max");
	round_trips(5, samples, daemon);
	round_trips(255, samples, daemon);
	status(samples);
	contexts(500);
	if (strcmp(argv[1], "-") != 0) {
		cancels(200);
		open_hands(argv[1]);
		insertions(100);
		/* Without a daemon each has a reader of its own: this program's is its own. */
		setenv("SCARD_READERS", "sim:default", 1);
		first_commands(50);
	}
	memory();
	SCardReleaseContext(context);
	return 0;
}
