/* Whether bytes of the image could be an address of the trusted side (bridge/trusted_addresses.py). */
#ifndef HYBRIDBRIDGE_TRUSTED_ADDRESSES_H
#define HYBRIDBRIDGE_TRUSTED_ADDRESSES_H

#include <stdint.h>
#include <string.h>

#define WORD 8
#define LANES 16
#define BLOCK 512 /* bytes that are looked at more closely if a word in them has the upper bytes of an address */

typedef uint8_t lanes __attribute__((vector_size(LANES)));

/* `size` bytes of virtual addresses from `start` on. */
struct address_range {
    uint64_t start, size;
};

/* In the first range, the kernel's window, only at multiples of 4: the upper bytes of a pointer into the direct map and a
 * -1 behind it are like an address there, 2 bytes on. */
static int is_in(const uint8_t *at, const struct address_range *ranges, uint32_t count)
{
    uint64_t word;
    memcpy(&word, at, WORD);
    for (uint32_t i = (uintptr_t)at & 3 ? 1 : 0; i < count; i++)
        if (word - ranges[i].start < ranges[i].size) return 1;
    return 0;
}

static lanes lanes_at(const uint8_t *at)
{
    lanes value;
    memcpy(&value, at, LANES);
    return value;
}

/* Where, of the words that begin in so many bytes, one has the three upper bytes of an address in the hole, or the four
 * of one in the kernel's window. `upper` are those of the hole, whose lowest three bits are free. */
static inline __attribute__((always_inline)) lanes like_one(const uint8_t *at, const uint8_t *upper)
{
    lanes b4 = lanes_at(at + 4), b5 = lanes_at(at + 5), b6 = lanes_at(at + 6), b7 = lanes_at(at + 7);
    lanes hole = (lanes)((b5 & 0xf8) == upper[0]) & (lanes)(b6 == upper[1]) & (lanes)(b7 == upper[2]);
    lanes b3 = lanes_at(at + 3);
    lanes window = (lanes)((b4 & b5 & b6 & b7) == 0xff) & (lanes)(b3 - upper[3] <= upper[4]);
    return hole | window;
}

static int is_any(lanes found)
{
    uint64_t halves[2];
    memcpy(halves, &found, LANES);
    return (halves[0] | halves[1]) != 0;
}

static int is_like_one(const uint8_t *block, const uint8_t *upper)
{
    lanes found = {0};
    for (uint32_t i = 0; i < BLOCK; i += LANES) found |= like_one(block + i, upper);
    return is_any(found);
}

/* The offset of the first word in one of the ranges, of those that lie whole in `size` bytes; -1 if there is none.
 * The first range is in the kernel's window, the last 2 GiB; the others in one hole of 8 TiB. */
int64_t trusted_address_in(const uint8_t *data, uint64_t size, const struct address_range *ranges, uint32_t count)
{
    uint64_t hole = count > 1 ? ranges[1].start : 0, last = ranges[0].start + ranges[0].size - 1;
    uint8_t first = ranges[0].start >> 24;
    const uint8_t upper[] = {hole >> 40 & 0xf8, hole >> 48, hole >> 56, first, (uint8_t)(last >> 24) - first};
    uint64_t at = 0;
    for (; at + BLOCK + WORD + LANES <= size; at += BLOCK) {
        if (!is_like_one(data + at, upper)) continue;
        /* with five levels of page tables the upper bytes of the hole are common ones: ff 00 0. */
        for (uint64_t i = at; i < at + BLOCK; i += LANES) {
            if (!is_any(like_one(data + i, upper))) continue;
            for (uint64_t word = i; word < i + LANES; word++)
                if (is_in(data + word, ranges, count)) return (int64_t)word;
        }
    }
    for (; at + WORD <= size; at++)
        if (is_in(data + at, ranges, count)) return (int64_t)at;
    return -1;
}

#endif
