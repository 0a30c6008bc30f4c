/* Which words of the snapshot's memory were read, for those who ask what an answer may rest on without showing it:
 * pointers on the way, lengths, names that were compared. */
#ifndef HYBRIDBRIDGE_READS_H
#define HYBRIDBRIDGE_READS_H

#include "engine.h"

#define FIRST_READS 65536u

/* Note a read of `size` bytes; nothing is noted where there is no memory for it. */
static void note_read(struct engine *e, uint64_t paddr, uint32_t size)
{
    uint64_t first = (paddr - e->snapshot_paddr) >> 3, last = (paddr + size - 1 - e->snapshot_paddr) >> 3;
    for (uint64_t word = first; word <= last && word < e->watched_words; word++) {
        if (e->words_read[word >> 3] >> (word & 7) & 1) continue;
        if (e->read_count == e->read_capacity) {
            uint64_t capacity = e->read_capacity ? 2 * e->read_capacity : FIRST_READS;
            uint32_t *larger = realloc(e->reads, capacity * sizeof *larger);
            if (!larger) return;
            e->reads = larger;
            e->read_capacity = capacity;
        }
        e->words_read[word >> 3] |= 1 << (word & 7);
        e->reads[e->read_count++] = (uint32_t)word;
    }
}

/* From here on note which of the first `words` words of the snapshot's memory are read. 0 if there is no memory. */
int engine_watch_reads(struct engine *e, uint64_t words)
{
    free(e->words_read);
    e->read_count = 0;
    e->words_read = calloc(words / 8 + 1, 1);
    e->watched_words = e->words_read ? words : 0;
    return e->words_read != 0;
}

/* How many words were read since this was last asked, and, with room for them, which. */
uint64_t engine_take_reads(struct engine *e, uint32_t *out)
{
    uint64_t count = e->read_count;
    if (!out) return count;
    memcpy(out, e->reads, count * sizeof *out);
    for (uint64_t i = 0; i < count; i++) e->words_read[out[i] >> 3] &= ~(1 << (out[i] & 7));
    e->read_count = 0;
    return count;
}

#endif
