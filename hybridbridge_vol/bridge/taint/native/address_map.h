/* What lies at an address: of which side, code or data. */
#ifndef HYBRIDBRIDGE_ADDRESS_MAP_H
#define HYBRIDBRIDGE_ADDRESS_MAP_H

#include "engine.h"

#define LAST_POINTER 0xFFFFFFFFFF000000ull /* above: error numbers and small negative numbers */

/* --- virtual addresses ------------------------------------------------------------------------------------- */

/* Whether a value can be a kernel pointer. */
static inline int looks_like_pointer(const struct engine *e, uint64_t value)
{
    return value >= e->upper_half && value < LAST_POINTER;
}

static int is_trusted_vaddr(const struct engine *e, uint64_t value)
{
    return (value >= e->trusted_vaddr && value < e->trusted_vaddr_end) || value - e->home_text < e->text_size;
}

/* An address in the kernel image's window that names a per-CPU variable: which side's depends on what is added. */
static int is_per_cpu_name(const struct engine *e, uint64_t value)
{
    uint64_t offset = value - e->twin_text;
    return offset >= e->per_cpu && offset < e->per_cpu_end;
}

static const struct area *area_of(struct engine *e, uint64_t vaddr)
{
    for (uint32_t i = 0; i < e->area_count; i++) {
        const struct area *a = &e->areas[e->last_area];
        if (vaddr - a->vaddr < a->size) return a;
        e->last_area = e->last_area + 1 < e->area_count ? e->last_area + 1 : 0;
    }
    return 0;
}

/* Whether an address is in code that has rules; which side's text, and the offset there. The modules' segments follow
 * the twin. */
static int find_code(struct engine *e, uint64_t vaddr, int *twin, uint64_t *offset)
{
    *twin = 0;
    if ((*offset = vaddr - e->home_text) < e->text_size) return 1;
    *twin = 1;
    if ((*offset = vaddr - e->twin_text) < e->text_size) return 1;
    const struct area *area = area_of(e, vaddr);
    if (!area) return 0;
    *offset = vaddr - area->vaddr + area->offset;
    return *offset < e->twin_size;
}

/* Whether the snapshot's static data lie at an address: in the kernel image's window what the twin does not provide, in
 * the modules area all but the areas. */
static int is_snapshot_static(struct engine *e, uint64_t value)
{
    uint64_t offset = value - e->twin_text;
    if (value >= e->modules_start && value < e->modules_end) return !area_of(e, value);
    return offset < e->text_size && !is_per_cpu_name(e, value) &&
           (offset >= e->twin_constant_end || (offset >= e->ro_after_init && offset < e->ro_after_init_end));
}

/* Whether a value whose origin was not observed is taken for a pointer of the snapshot's. */
static inline int leads_to_snapshot(const struct engine *e, uint64_t value)
{
    return looks_like_pointer(e, value) && !is_trusted_vaddr(e, value) && !is_per_cpu_name(e, value);
}

/* --- guest-physical addresses ------------------------------------------------------------------------------ */

static inline enum region region_of(const struct engine *e, uint64_t paddr)
{
    if (paddr < e->trusted_size) return R_TRUSTED;
    if (paddr >= e->snapshot_paddr) return R_SNAPSHOT;
    if (paddr - e->user_paddr < e->user_size) return R_USER;
    return R_OTHER;
}

/* Home's text and .rodata, which do not change. */
static inline int is_constant(const struct engine *e, uint64_t paddr)
{
    return paddr >= e->constant_start && paddr < e->constant_end;
}

/* Where `size` bytes are in this process; 0 if they are not within one region. */
static uint8_t *host(const struct engine *e, uint64_t paddr, uint64_t size)
{
    uint32_t low = 0, high = e->region_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct mapped_region *r = &e->regions[middle];
        if (paddr < r->paddr) high = middle;
        else if (paddr - r->paddr >= r->size) low = middle + 1;
        else return size <= r->size - (paddr - r->paddr) ? r->host + (paddr - r->paddr) : 0;
    }
    return 0;
}

/* A number of up to 8 bytes in guest-physical memory; 0 where there is no memory. */
static uint64_t number_at(const struct engine *e, uint64_t paddr, uint32_t size)
{
    uint64_t value = 0;
    const uint8_t *at = host(e, paddr, size);
    if (at) memcpy(&value, at, size);
    return value;
}

static uint64_t word_at(const struct engine *e, uint64_t paddr) { return number_at(e, paddr, 8); }

static inline uint64_t size_mask(uint32_t size) { return size < 8 ? (1ull << (8 * size)) - 1 : ~0ull; }

static inline uint32_t left_in_page(uint64_t paddr) { return PAGE - (uint32_t)(paddr % PAGE); }

/* Whether an access crosses the end of its page. */
static inline int crosses_page(uint64_t paddr, uint32_t size) { return size > left_in_page(paddr); }

#endif
