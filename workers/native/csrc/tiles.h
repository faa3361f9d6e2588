/* Included by ops.c: AMX, with eight tile registers of 16 rows of 64 bytes each. */

#if defined(__AMX_BF16__) || defined(__AMX_INT8__)

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* GCC does not know that loading a tile reads memory. Without this it may move or drop stores before the load. */
#define SETTLE() __asm__ volatile("" ::: "memory")

/* Configures the rows of each tile. All are 64 bytes wide. */
INLINE void configure_heights(const uint8_t heights[8]) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t width[16];
        uint8_t height[16];
    } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.width[tile] = 64;
        config.height[tile] = heights[tile];
    }
    __asm__ volatile("" ::"m"(config)); /* GCC does not know that all of this is read */
    _tile_loadconfig(&config);
}

/* Whether this process may use AMX. Linux grants it on request (docs.kernel.org/arch/x86/xstate.html). */
static int64_t may_use_tiles(void) {
    static _Atomic int answer = -1;
    const int request = 0x1023, tile_data = 18;
    if (answer < 0) answer = syscall(SYS_arch_prctl, request, tile_data) == 0;
    return answer;
}

#endif
