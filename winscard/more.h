/*
 * Functions that Windows' winscard.h has and pcsc-lite's leaves out, as this library has them. Included after
 * winscard.h.
 */
#ifndef SCARD_MORE_H
#define SCARD_MORE_H

#ifdef __cplusplus
extern "C" {
#endif

/* An ATR to look for, and the bits of it that matter. */
typedef struct {
	DWORD cbAtr;
	BYTE rgbAtr[36];
	BYTE rgbMask[36];
} SCARD_ATRMASK, *LPSCARD_ATRMASK;

#ifndef SCARD_READER_TYPE_USB
#define SCARD_READER_TYPE_USB 0x20
#endif

/* Which readers have a card with one of these ATRs: SCARD_STATE_ATRMATCH in dwEventState. Returns at once. */
LONG SCardLocateCardsByATR(SCARDCONTEXT hContext, LPSCARD_ATRMASK rgAtrMasks, DWORD cAtrs,
	SCARD_READERSTATE *rgReaderStates, DWORD cReaders);
LONG SCardLocateCardsByATRA(SCARDCONTEXT hContext, LPSCARD_ATRMASK rgAtrMasks, DWORD cAtrs,
	SCARD_READERSTATE *rgReaderStates, DWORD cReaders);

/* How many commands have been answered in the reader since it was plugged in. */
LONG SCardGetTransmitCount(SCARDHANDLE hCard, LPDWORD pcTransmitCount);

/* What kind of reader it is: SCARD_READER_TYPE_USB. */
LONG SCardGetDeviceTypeId(SCARDCONTEXT hContext, LPCSTR szReaderName, LPDWORD pdwDeviceTypeId);
LONG SCardGetDeviceTypeIdA(SCARDCONTEXT hContext, LPCSTR szReaderName, LPDWORD pdwDeviceTypeId);

#ifdef __cplusplus
}
#endif

#endif
