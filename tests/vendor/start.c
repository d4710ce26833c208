/* What a Windows DLL needs beside ucrtbase.dll, so that zig builds no C library for it: that takes minutes per target. */
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <stdarg.h>
#include <stdio.h>
#include <windows.h>

#define STANDARD_SNPRINTF 2 /* a terminating NUL, and the length that would have been needed */

BOOL WINAPI _DllMainCRTStartup(HINSTANCE library, DWORD reason, LPVOID reserved)
{
    (void)library, (void)reason, (void)reserved;
    return TRUE;
}

/* Thread-local variables: the linker finds _tls_used and joins the sections between the two. */
ULONG _tls_index;
__attribute__((section(".tls"))) char tls_begin;
__attribute__((section(".tls$ZZZ"))) char tls_end;
const IMAGE_TLS_DIRECTORY _tls_used = {
    .StartAddressOfRawData = (ULONG_PTR)&tls_begin,
    .EndAddressOfRawData = (ULONG_PTR)&tls_end,
    .AddressOfIndex = (ULONG_PTR)&_tls_index,
};

int snprintf(char *buffer, size_t size, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int written = __stdio_common_vsprintf(STANDARD_SNPRINTF, buffer, size, format, NULL, values);
    va_end(values);
    return written;
}

int fprintf(FILE *file, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int written = __stdio_common_vfprintf(0, file, format, NULL, values);
    va_end(values);
    return written;
}

int sscanf(const char *text, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int found = __stdio_common_vsscanf(0, text, (size_t)-1, format, NULL, values);
    va_end(values);
    return found;
}
#endif
