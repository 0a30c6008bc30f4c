/* The taint engine: a label for every byte of registers and memory, followed through every guest instruction that
 * SLOW-BRIDGE executes.
 *
 * Two callbacks run inside Unicorn: one before each instruction, one at each memory access. An instruction's transfer
 * rule (made by bridge/taint/instruction_rules.py, once for each distinct instruction) is applied when the *next*
 * instruction begins: by then the memory callback has recorded which physical addresses it accessed. Only what depends
 * on the registers before execution, the labels of the address, is taken beforehand.
 */
#include <malloc.h>

#include "address_map.h"
#include "checks.h"
#include "engine.h"
#include "labels.h"
#include "reads.h"
#include "shadow.h"
#include "apply_rules.h"
#include "trusted_addresses.h"

#define UC_MEM_WRITE 17 /* unicorn/unicorn.h, enum uc_mem_type */

/* --- Unicorn's callbacks ----------------------------------------------------------------------------------- */

/* The number of the rule of the instruction at an address; it is decoded if that was not done yet. 0: not our code. */
static uint32_t rule_number(struct engine *e, uint64_t vaddr, int *twin)
{
    uint64_t offset;
    int known = find_code(e, vaddr, twin, &offset);
    const uint32_t *rules = *twin ? e->twin_rules : e->home_rules;
    if (known && rules[offset]) return rules[offset];
    e->statistics.rules_missed++;
    return known && e->on_miss(vaddr) ? rules[offset] : 0;
}

void on_instruction(void *uc, uint64_t vaddr, uint32_t size, struct engine *e)
{
    (void)uc, (void)size;
    finish_instruction(e);
    if (e->stopped) return;
    e->statistics.instructions++;
    int twin;
    uint32_t number = rule_number(e, vaddr, &twin);
    if (!number) {
        event(e, E_OUTSIDE, vaddr, 0, 0);
        return;
    }
    e->statistics.twin_instructions += twin;
    const struct rule *r = &e->rules[number];
    if (r->kind != K_TRAMPOLINE) {
        begin_instruction(e, r, vaddr);
        return;
    }
    e->statistics.trampolines++;
    if (r->reads & e->live) check_arguments(e, r, vaddr);
}

void on_memory(void *uc, int type, uint64_t paddr, int size, int64_t value, struct engine *e)
{
    (void)uc;
    if (e->access_count == MAX_ACCESSES) {
        e->statistics.split++;
        return;
    }
    struct access *a = &e->accesses[e->access_count++];
    *a = (struct access){paddr, (uint64_t)value, 0, (uint32_t)size, type == UC_MEM_WRITE};
    int crosses = crosses_page(paddr, a->size);
    if (e->watched_words && !a->is_write) note_read(e, paddr, crosses ? left_in_page(paddr) : a->size);
    if (!crosses) return;
    a->next_paddr = e->on_split(e->pending_vaddr, paddr);
    if (!a->next_paddr) e->statistics.split++;
    else if (e->watched_words && !a->is_write) note_read(e, a->next_paddr, a->size - left_in_page(paddr));
}

/* --- Python's calls: the engine's life --------------------------------------------------------------------- */

/* The sizes that Python's mirrors must have: of a rule, and of the part of `struct engine` that it sees. */
uint64_t engine_layout(void) { return sizeof(struct rule) << 32 | offsetof(struct engine, regions); }

struct engine *engine_new(uint64_t text_size, uint64_t twin_size, uint64_t trusted_size, uint64_t user_size)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return 0;
    e->text_size = text_size;
    e->twin_size = twin_size;
    e->trusted_size = trusted_size;
    e->user_size = user_size;
    e->home_rules = calloc(text_size, sizeof(uint32_t));
    e->twin_rules = calloc(twin_size, sizeof(uint32_t));
    e->trusted_shadow = calloc(trusted_size / PAGE, sizeof(label *));
    e->user_shadow = calloc(user_size / PAGE, sizeof(label *));
    e->nodes = calloc(MAX_NODES, sizeof(struct node));
    e->node_hash = calloc(NODE_HASH, sizeof(uint32_t));
    e->static_loads = calloc(STATIC_LOADS, sizeof(struct static_load));
    e->rule_capacity = FIRST_RULES;
    e->rule_count = 1; /* number 0 stands for none */
    e->rules = calloc(e->rule_capacity, sizeof(struct rule));
    return e;
}

static void free_shadow(label **pages, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        free(pages[i]);
        pages[i] = 0;
    }
}

/* No register has a label; no instruction is under way. */
static void clean_registers(struct engine *e)
{
    memset(e->registers, 0, sizeof e->registers);
    e->flags = 0;
    e->live = 0;
    e->pending = 0;
    e->access_count = 0;
    e->event_count = 0;
    e->stopped = 0;
}

/* Drop all labels: bytes are labelled by where they lie and what they hold again. */
void engine_reset(struct engine *e)
{
    int many = e->snapshot_used > MANY_SHADOWS;
    free_shadow(e->trusted_shadow, e->trusted_size / PAGE);
    free_shadow(e->user_shadow, e->user_size / PAGE);
    free_shadow(e->snapshot_shadow, e->snapshot_capacity);
    if (many) malloc_trim(0);
    free(e->snapshot_keys);
    free(e->snapshot_shadow);
    e->snapshot_keys = 0;
    e->snapshot_shadow = 0;
    e->snapshot_capacity = e->snapshot_used = 0;
    if (e->node_count) {
        memset(e->node_hash, 0, NODE_HASH * sizeof(uint32_t));
        e->node_count = 0;
    }
    clean_registers(e);
}

void engine_free(struct engine *e)
{
    if (!e) return;
    engine_reset(e);
    free(e->home_rules), free(e->twin_rules), free(e->trusted_shadow), free(e->user_shadow), free(e->nodes);
    free(e->node_hash), free(e->static_loads), free(e->rules), free(e->regions), free(e->areas);
    free(e->words_read), free(e->reads);
    free(e);
}

int engine_regions(struct engine *e, const struct mapped_region *regions, uint32_t count)
{
    free(e->regions);
    e->regions = malloc(count * sizeof *regions);
    if (!e->regions) return 0;
    memcpy(e->regions, regions, count * sizeof *regions);
    e->region_count = count;
    return 1;
}

int engine_add_area(struct engine *e, uint64_t vaddr, uint64_t size, uint64_t offset)
{
    struct area *larger = realloc(e->areas, (e->area_count + 1) * sizeof *larger);
    if (!larger) return 0;
    e->areas = larger;
    e->areas[e->area_count++] = (struct area){vaddr, size, offset};
    return 1;
}

/* --- Python's calls: rules --------------------------------------------------------------------------------- */

/* Keep a rule; its number, 0 if there is no memory. */
uint32_t engine_add_rule(struct engine *e, const struct rule *rule)
{
    if (e->rule_count == e->rule_capacity) {
        ptrdiff_t pending = e->pending ? e->pending - e->rules : 0;
        struct rule *larger = realloc(e->rules, 2 * e->rule_capacity * sizeof *larger);
        if (!larger) return 0;
        if (e->pending) e->pending = larger + pending;
        e->rules = larger;
        e->rule_capacity *= 2;
    }
    e->rules[e->rule_count] = *rule;
    return e->rule_count++;
}

void engine_set_rule(struct engine *e, int twin, uint64_t offset, uint32_t number)
{
    if (offset < (twin ? e->twin_size : e->text_size)) (twin ? e->twin_rules : e->home_rules)[offset] = number;
}

/* --- Python's calls: a run --------------------------------------------------------------------------------- */

/* Before a run: registers have no labels, but with `seed` those that hold an address of the snapshot's are pointers. */
void engine_begin(struct engine *e, int seed)
{
    clean_registers(e);
    if (!seed) return;
    for (uint32_t i = 0; i < GENERAL_COUNT; i++)
        if (leads_to_snapshot(e, general(e, i))) {
            fill(register_labels(e, i), POINTER | SEEDED, 8);
            set_live(e, i, 1);
        }
}

void engine_finish(struct engine *e) { finish_instruction(e); }

/* The instruction under way faulted: it will run again. */
void engine_cancel(struct engine *e)
{
    e->pending = 0;
    e->access_count = 0;
}

uint32_t engine_events(struct engine *e, struct event *out, uint32_t room)
{
    uint32_t count = e->event_count < room ? e->event_count : room;
    memcpy(out, e->events, count * sizeof *out);
    return count;
}

/* --- Python's calls: labels -------------------------------------------------------------------------------- */

/* Python stored something at a guest-physical address. */
void engine_clean(struct engine *e, uint64_t paddr, uint64_t size)
{
    static const label clean[PAGE];
    for (uint64_t part; size; paddr += part, size -= part) {
        part = left_in_page(paddr) < size ? left_in_page(paddr) : size;
        store_in_page(e, paddr, (uint32_t)part, clean);
    }
}

void engine_labels(struct engine *e, uint64_t paddr, uint64_t size, label *out)
{
    for (uint64_t part; size; paddr += part, out += part, size -= part) {
        part = left_in_page(paddr) < size ? left_in_page(paddr) : size;
        load_in_page(e, paddr, (uint32_t)part, out);
    }
}

/* The two labels of a node; 0 if there is none of that number. */
uint32_t engine_node(struct engine *e, label node, label *left, label *right)
{
    uint64_t number = node & ~(FLAGS | NODE);
    if (number > e->node_count) return 0;
    *left = e->nodes[number].left;
    *right = e->nodes[number].right;
    return 1;
}

/* The static reference that last loaded the word at `paddr`; 0 if none is remembered. */
uint64_t engine_loaded_by(struct engine *e, uint64_t paddr)
{
    const struct static_load *found = &e->static_loads[(uint32_t)(paddr >> 3) % STATIC_LOADS];
    return found->paddr == paddr ? found->vaddr : 0;
}
