"""What Wine 8 lacks and Windows has: for the test machine alone, never part of the product."""

PROCESS_PRNG_C = """\
/* bcryptprimitives.dll: every extension module written in Rust imports ProcessPrng from it. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length); /* RtlGenRandom */

#ifdef __i386__ /* the name without @8, as Windows exports it */
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) __asm__("_ProcessPrng");
#endif

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    while (length) {
        ULONG part = length > 65536 ? 65536 : (ULONG)length;
        if (!SystemFunction036(data, part)) return FALSE;
        data += part;
        length -= part;
    }
    return TRUE;
}
"""
PROCESS_PRNG_DLL = "bcryptprimitives.dll"

SITE_CUSTOMIZE = """\
# Wine 8 aborts the process that calls what it has no code for: propsys.VariantToString (by _wmi, for
# platform.uname) and kernel32.CopyFile2 (for shutil.copy2). Without them Python falls back by itself.
import sys

sys.modules["_wmi"] = None
try:
    import _winapi

    del _winapi.CopyFile2
except (ImportError, AttributeError):
    pass
"""
