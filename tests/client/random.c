/* bcryptprimitives.dll with the one function that Rust's standard library takes from it; Wine 8 has none. The numbers seed
 * hash tables in a test, and are no secret. */
#include <stddef.h>

__declspec(dllexport) int ProcessPrng(unsigned char *data, size_t length)
{
    static unsigned long long state = 0x9E3779B97F4A7C15;
    while (length-- != 0) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *data++ = (unsigned char)state;
    }
    return 1;
}

int DllMain(void *module, unsigned reason, void *reserved)
{
    (void)module;
    (void)reason;
    (void)reserved;
    return 1;
}
