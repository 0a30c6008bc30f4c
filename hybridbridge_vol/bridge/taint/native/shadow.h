/* Labels of memory: one for each byte, in shadow pages that are made when a byte is stored to. */
#ifndef HYBRIDBRIDGE_SHADOW_H
#define HYBRIDBRIDGE_SHADOW_H

#include "address_map.h"
#include "labels.h"

/* --- shadow pages ------------------------------------------------------------------------------------------ */

static label *new_shadow(void)
{
    label *page = malloc(PAGE * sizeof(label));
    if (page) memset(page, 0xff, PAGE * sizeof(label)); /* UNSET */
    return page;
}

static label **snapshot_slot(struct engine *e, uint64_t number, int create);

static void grow_snapshot_table(struct engine *e)
{
    uint64_t old_capacity = e->snapshot_capacity;
    uint64_t *old_keys = e->snapshot_keys;
    label **old_pages = e->snapshot_shadow;
    e->snapshot_capacity = old_capacity ? old_capacity * 2 : FIRST_SNAPSHOT_PAGES;
    e->snapshot_keys = calloc(e->snapshot_capacity, sizeof(uint64_t));
    e->snapshot_shadow = calloc(e->snapshot_capacity, sizeof(label *));
    e->snapshot_used = 0;
    for (uint64_t i = 0; i < old_capacity; i++)
        if (old_pages[i]) *snapshot_slot(e, old_keys[i], 1) = old_pages[i];
    free(old_keys);
    free(old_pages);
}

/* The table's slot for the shadow of a page of the image; 0 if it has none and none is to be made. */
static label **snapshot_slot(struct engine *e, uint64_t number, int create)
{
    if (create && e->snapshot_used * 2 >= e->snapshot_capacity) grow_snapshot_table(e);
    if (!e->snapshot_capacity) return 0;
    uint64_t mask = e->snapshot_capacity - 1;
    for (uint64_t slot = (number * 0x9E3779B97F4A7C15ull >> 20) & mask;; slot = (slot + 1) & mask) {
        if (e->snapshot_shadow[slot] && e->snapshot_keys[slot] == number) return &e->snapshot_shadow[slot];
        if (!e->snapshot_shadow[slot]) {
            if (!create) return 0;
            e->snapshot_keys[slot] = number;
            e->snapshot_used++;
            return &e->snapshot_shadow[slot];
        }
    }
}

static label *shadow_of(struct engine *e, enum region region, uint64_t paddr, int create)
{
    label **slot;
    if (region == R_TRUSTED) slot = &e->trusted_shadow[paddr / PAGE];
    else if (region == R_USER) slot = &e->user_shadow[(paddr - e->user_paddr) / PAGE];
    else slot = snapshot_slot(e, (paddr - e->snapshot_paddr) / PAGE, create);
    if (!slot) return 0;
    if (!*slot && create) *slot = new_shadow();
    return *slot;
}

/* --- loads ------------------------------------------------------------------------------------------------- */

/* The label of a byte that was not stored to: by its region, and by whether its word holds a pointer. */
static label initial_label(struct engine *e, enum region region, uint64_t paddr, int word_is_pointer)
{
    if (region == R_SNAPSHOT) return leaf(paddr - e->snapshot_paddr, 1) | (word_is_pointer ? POINTER : 0);
    if (region != R_TRUSTED || is_constant(e, paddr)) return 0;
    return word_is_pointer ? POINTER | SEEDED : TRUSTED;
}

/* Whether a word that was not stored to holds a pointer of the snapshot's. `is_ours`: it is on the snapshot's side, but
 * we put a pointer of ours there. */
static int word_is_pointer(struct engine *e, enum region region, uint64_t paddr, int *is_ours)
{
    *is_ours = 0;
    if (region == R_USER || (region == R_TRUSTED && is_constant(e, paddr))) return 0;
    uint64_t value = word_at(e, paddr);
    if (region == R_TRUSTED) return leads_to_snapshot(e, value);
    if (!looks_like_pointer(e, value) || is_per_cpu_name(e, value)) return 0;
    *is_ours = is_trusted_vaddr(e, value) && !e->on_foreign(paddr, value);
    return 1;
}

/* Labels of bytes within one page. */
static void load_in_page(struct engine *e, uint64_t paddr, uint32_t size, label *out)
{
    enum region region = region_of(e, paddr);
    e->statistics.loads++;
    if (region == R_OTHER) { /* the twin's .rodata: some of its relocated pointers lead into the snapshot */
        label l = size == 8 && is_snapshot_static(e, word_at(e, paddr)) ? POINTER : 0;
        for (uint32_t i = 0; i < size; i++) out[i] = l;
        return;
    }
    const label *page = shadow_of(e, region, paddr, 0);
    uint32_t unset = size;
    if (page) {
        unset = 0;
        for (uint32_t i = 0; i < size; i++) {
            out[i] = page[paddr % PAGE + i];
            unset += out[i] == UNSET;
        }
        if (!unset) return;
    }
    int is_ours = 0, is_pointer = size == 8 && unset == 8 && word_is_pointer(e, region, paddr, &is_ours);
    if (is_ours) {
        memset(out, 0, size * sizeof(label));
        return;
    }
    if (region == R_SNAPSHOT) e->statistics.snapshot_loads++;
    for (uint32_t i = 0; i < size; i++)
        if (!page || out[i] == UNSET) out[i] = initial_label(e, region, paddr + i, is_pointer);
}

/* The value that an access reads; without the second page's part where that page is not known. */
static uint64_t value_at(const struct engine *e, const struct access *a, uint32_t size)
{
    uint32_t room = left_in_page(a->paddr);
    if (size <= room) return number_at(e, a->paddr, size);
    return number_at(e, a->paddr, room) | (a->next_paddr ? number_at(e, a->next_paddr, size - room) << (8 * room) : 0);
}

/* A word in two pages is a pointer if all of it is the snapshot's and looks like one. Where only its first part is known
 * it may be one, whatever that part holds. */
static int is_split_pointer(struct engine *e, const struct access *a, const label *in)
{
    if (a->next_paddr && !looks_like_pointer(e, value_at(e, a, 8))) return 0;
    for (uint32_t i = 0; i < 8; i++)
        if (!has_data(in[i])) return 0;
    return region_of(e, a->paddr) == R_SNAPSHOT;
}

/* Labels of the first `size` bytes of an access. */
static void load(struct engine *e, const struct access *a, uint32_t size, label *out)
{
    uint32_t room = left_in_page(a->paddr), data = 0;
    load_in_page(e, a->paddr, size < room ? size : room, out);
    if (size <= room) return;
    if (a->next_paddr) {
        load_in_page(e, a->next_paddr, size - room, out + room);
    } else { /* the rest is like the first part */
        for (uint32_t i = 0; i < room; i++) data |= has_data(out[i]);
        for (uint32_t i = room; i < size; i++) out[i] = data ? SEEDED : 0;
    }
    if (size == 8 && is_split_pointer(e, a, out))
        for (uint32_t i = 0; i < size; i++) out[i] |= POINTER;
}

/* --- stores ------------------------------------------------------------------------------------------------ */

static void store_in_page(struct engine *e, uint64_t paddr, uint32_t size, const label *in)
{
    enum region region = region_of(e, paddr);
    if (region == R_OTHER) return;
    label *page = shadow_of(e, region, paddr, 1);
    if (page) memcpy(&page[paddr % PAGE], in, size * sizeof(label));
}

/* Give the first `size` bytes of an access these labels. Where the second page is not known it is nearly always the next
 * one; where it is not, the next one does not hold the value that was written. */
static void store(struct engine *e, const struct access *a, uint32_t size, const label *in)
{
    uint32_t room = left_in_page(a->paddr);
    e->statistics.stores++;
    store_in_page(e, a->paddr, size < room ? size : room, in);
    if (size <= room) return;
    if (a->next_paddr) {
        store_in_page(e, a->next_paddr, size - room, in + room);
        return;
    }
    if (a->size > 8) return;
    if (number_at(e, a->paddr + room, a->size - room) == (a->value & size_mask(a->size)) >> (8 * room))
        store_in_page(e, a->paddr + room, size - room, in + room);
}

/* --- the memory operands of the instruction under way ------------------------------------------------------ */

/* What the address adds to the data loaded through it: nothing if it is a pointer, of either side. */
static label address_label(struct engine *e)
{
    label base = e->base_label & POINTER ? 0 : e->base_label & ~TRUSTED;
    label index = e->index_label & POINTER ? 0 : e->index_label & ~TRUSTED;
    return (base | index) ? join(e, base, index) : 0;
}

/* The labels of the first `wanted` bytes that the instruction reads. */
static void read_memory(struct engine *e, label *out, uint32_t wanted)
{
    uint32_t have = 0;
    for (uint32_t i = 0; i < e->access_count && have < wanted; i++) {
        if (e->accesses[i].is_write) continue;
        uint32_t size = e->accesses[i].size;
        if (size > wanted - have) size = wanted - have;
        load(e, &e->accesses[i], size, out + have);
        have += size;
    }
    if (have < wanted) memset(out + have, 0, (wanted - have) * sizeof(label));
    label address = address_label(e);
    if (address)
        for (uint32_t i = 0; i < wanted; i++) out[i] = join(e, out[i], address);
}

/* Give the bytes that the instruction writes these labels; those beyond `size` become clean. */
static void write_memory(struct engine *e, const label *in, uint32_t size)
{
    static const label clean[MAX_WIDTH];
    uint32_t done = 0;
    for (uint32_t i = 0; i < e->access_count; i++) {
        if (!e->accesses[i].is_write) continue;
        uint32_t part = e->accesses[i].size;
        if (done < size) {
            if (part > size - done) part = size - done;
            store(e, &e->accesses[i], part, in + done);
            done += part;
        } else {
            store(e, &e->accesses[i], part > MAX_WIDTH ? MAX_WIDTH : part, clean);
        }
    }
}

#endif
