/* Applying a rule: the labels of an instruction's results, from those of its operands. */
#ifndef HYBRIDBRIDGE_TRANSFER_H
#define HYBRIDBRIDGE_TRANSFER_H

#include "checks.h"
#include "shadow.h"

/* --- operands ---------------------------------------------------------------------------------------------- */

static inline void refresh_live(struct engine *e, uint32_t slot)
{
    if (slot >= GENERAL_BYTES) return;
    const label *labels = register_labels(e, slot / 8);
    label any = 0;
    for (uint32_t i = 0; i < 8; i++) any |= labels[i];
    set_live(e, slot / 8, any != 0);
}

/* Give a register's bytes labels. Writing 32 bits clears the upper half (SDM volume 1, 3.4.1.1). */
static void set_register(struct engine *e, uint16_t slot, const label *in, uint32_t size)
{
    memcpy(&e->registers[slot], in, size * sizeof(label));
    if (size == 4 && slot < GENERAL_BYTES) memset(&e->registers[slot + 4], 0, 4 * sizeof(label));
    refresh_live(e, slot);
}

static void fill(label *out, label l, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) out[i] = l;
}

static void fetch(struct engine *e, uint8_t kind, uint16_t slot, uint8_t size, label *out)
{
    if (kind == O_REGISTER) memcpy(out, &e->registers[slot], size * sizeof(label));
    else if (kind == O_MEMORY) read_memory(e, out, size);
    else fill(out, kind == O_SNAPSHOT_ADDRESS ? POINTER : 0, size);
}

static void put(struct engine *e, const struct rule *r, const label *in, uint32_t size)
{
    if (r->target_kind == O_REGISTER) set_register(e, r->target, in, size);
    else if (r->target_kind == O_MEMORY) write_memory(e, in, size);
}

/* --- short cuts: most instructions have no labels at all ---------------------------------------------------- */

static inline int is_general(uint8_t kind, uint16_t slot) { return kind == O_REGISTER && slot < GENERAL_BYTES; }

/* Whether an operand can have a label. Of vector registers it is not known which are live. */
static inline int may_have_label(const struct engine *e, uint8_t kind, uint16_t slot)
{
    if (is_general(kind, slot)) return is_live(e, slot / 8);
    return kind != O_NONE && kind != O_CONSTANT;
}

/* Whether the target, if it is a register, can have a label that the rule would replace. */
static inline int target_may_have_label(const struct engine *e, const struct rule *r)
{
    return r->target_kind != O_NONE && may_have_label(e, r->target_kind, r->target);
}

/* --- pointers ---------------------------------------------------------------------------------------------- */

/* The result of arithmetic is a pointer of the snapshot's if an operand was and the value still looks like one. */
static label settle_pointer(struct engine *e, const struct rule *r, label all)
{
    if (!(all & POINTER)) return all;
    uint64_t value = 0;
    if (r->target_size == 8) {
        if (is_general(r->target_kind, r->target)) value = general(e, r->target / 8);
        else if (r->target_kind == O_MEMORY)
            for (uint32_t i = 0; i < e->access_count; i++)
                if (e->accesses[i].is_write) value = e->accesses[i].value;
    }
    return looks_like_pointer(e, value) ? all : all & ~POINTER;
}

/* --- one function for each kind of rule -------------------------------------------------------------------- */

/* The value that a conditional move would have taken from its source, as far as it is known. */
static uint64_t offered_value(struct engine *e, const struct rule *r, uint64_t after)
{
    uint64_t offered = after;
    if (r->source_kind == O_REGISTER) return r->source == r->target ? after : general(e, r->source / 8);
    for (uint32_t i = 0; i < e->access_count; i++) {
        const struct access *a = &e->accesses[i];
        if (a->next_paddr || !crosses_page(a->paddr, a->size)) offered = value_at(e, a, r->target_size);
    }
    return offered;
}

/* cmov: the values show which operand was taken, unless they are equal: then it may have been either. */
static void choose_by_value(struct engine *e, const struct rule *r, label *value)
{
    uint64_t width = size_mask(r->target_size), after = general(e, r->target / 8) & width;
    const label *old = &e->registers[r->target];
    if (after != (offered_value(e, r, after) & width)) memcpy(value, old, r->target_size * sizeof(label));
    else if (after == (e->old_target & width))
        for (uint32_t i = 0; i < r->target_size; i++) value[i] = join(e, value[i], old[i]);
}

static void apply_copy(struct engine *e, const struct rule *r)
{
    if (is_general(r->source_kind, r->source) && !is_live(e, r->source / 8) && !target_may_have_label(e, r)) return;
    label value[MAX_WIDTH];
    fetch(e, r->source_kind, r->source, r->source_size, value);
    if (r->target_size > r->source_size) {
        label extension = r->bits & B_SIGN_EXTENDS ? value[r->source_size - 1] & ~ADDRESS : 0;
        fill(value + r->source_size, extension, r->target_size - r->source_size);
    }
    if (r->bits & B_KEEPS_TARGET) choose_by_value(e, r, value);
    put(e, r, value, r->target_size);
}

static void apply_clear(struct engine *e, const struct rule *r)
{
    static const label clean[MAX_WIDTH];
    if (r->target_kind != O_REGISTER || target_may_have_label(e, r)) put(e, r, clean, r->target_size);
    if (r->bits & B_WRITES_FLAGS) e->flags = 0;
}

static void apply_alu(struct engine *e, const struct rule *r)
{
    int is_static_lea = r->bits & B_STATIC && !(r->bits & B_MEMORY);
    if (!is_static_lea && !e->flags && !may_have_label(e, r->source_kind, r->source) &&
        !may_have_label(e, r->second_kind, r->second) && !target_may_have_label(e, r))
        return;
    label value[MAX_WIDTH];
    fetch(e, r->source_kind, r->source, r->source_size, value);
    label all = join_all(e, value, r->source_size);
    if (r->second_kind != O_NONE) {
        fetch(e, r->second_kind, r->second, r->second_size, value);
        label first = all, second = join_all(e, value, r->second_size);
        all = join(e, first, second);
        if (r->bits & B_SUBTRACTS && second & POINTER && !(first & POINTER)) all = (all & ~POINTER) | DISTANCE;
        else if (cancel(first, second)) all &= ~ADDRESS;
    }
    if (is_static_lea) all |= POINTER;
    if (r->bits & B_READS_FLAGS) all = join(e, all, e->flags);
    if (r->bits & B_WRITES_FLAGS) e->flags = all & ~ADDRESS;
    if (r->target_kind == O_NONE) return;
    fill(value, settle_pointer(e, r, all), r->target_size);
    put(e, r, value, r->target_size);
}

static void apply_bits(struct engine *e, const struct rule *r)
{
    if (!e->flags && !may_have_label(e, r->source_kind, r->source) &&
        !may_have_label(e, r->second_kind, r->second) && !target_may_have_label(e, r))
        return;
    label left[MAX_WIDTH], right[MAX_WIDTH], all = 0;
    fetch(e, r->source_kind, r->source, r->source_size, left);
    fetch(e, r->second_kind, r->second, r->source_size, right);
    for (uint32_t i = 0; i < r->source_size; i++) {
        left[i] = r->mask >> (8 * (i & 7)) & 0xff ? join(e, left[i], right[i]) & ~DISTANCE : 0;
        all = join(e, all, left[i]);
    }
    e->flags = all & ~POINTER;
    if (r->target_kind == O_NONE) return;
    if (all & POINTER && !(settle_pointer(e, r, all) & POINTER))
        for (uint32_t i = 0; i < r->source_size; i++) left[i] &= ~POINTER;
    put(e, r, left, r->source_size);
}

/* xchg and xadd. */
static void apply_swap(struct engine *e, const struct rule *r)
{
    label target[MAX_WIDTH], source[MAX_WIDTH];
    uint32_t size = r->target_size;
    fetch(e, r->target_kind, r->target, size, target);
    fetch(e, r->source_kind, r->source, size, source);
    if (r->kind == K_ADDSWAP) {
        label all = join(e, join_all(e, target, size), join_all(e, source, size));
        e->flags = all & ~POINTER;
        fill(source, settle_pointer(e, r, all), size);
    }
    put(e, r, source, size);
    set_register(e, r->source, target, size);
}

/* cmpxchg: the target takes the source if it was what the accumulator holds; else the accumulator, which then changes,
 * takes the target. */
static void apply_compare_swap(struct engine *e, const struct rule *r)
{
    label target[MAX_WIDTH], source[MAX_WIDTH];
    const uint32_t rax = 0, size = r->target_size;
    fetch(e, r->target_kind, r->target, size, target);
    fetch(e, r->source_kind, r->source, size, source);
    e->flags = join(e, join_all(e, register_labels(e, rax), size), join_all(e, target, size)) & ~POINTER;
    if (((general(e, rax) ^ e->old_target) & size_mask(size)) == 0) {
        put(e, r, source, size);
    } else {
        put(e, r, target, size);
        set_register(e, rax, target, size);
    }
}

/* movs, stos, lods: one element an execution. scas and cmps are generic. */
static void apply_string(struct engine *e, const struct rule *r)
{
    if (!e->access_count) return; /* a count of 0 */
    label value[MAX_WIDTH];
    if (r->source_kind == O_MEMORY) {
        if (r->index < GENERAL_COUNT) e->index_label = 0; /* where movs writes to */
        read_memory(e, value, r->source_size);
    } else {
        fetch(e, r->source_kind, r->source, r->source_size, value);
    }
    put(e, r, value, r->source_size);
}

static inline uint32_t followed_size(const struct access *a) { return a->size > MAX_WIDTH ? MAX_WIDTH : a->size; }

/* The union of all that a generic rule reads. */
static label generic_inputs(struct engine *e, const struct rule *r)
{
    label all = r->bits & B_READS_FLAGS ? e->flags : 0, value[MAX_WIDTH];
    for (uint32_t i = 0; i < GENERAL_COUNT; i++)
        if (r->reads >> i & 1) all = join(e, all, join_register(e, i));
    for (uint32_t i = 0; i < 16; i++)
        if (r->reads >> (16 + i) & 1) all = join(e, all, join_all(e, vector_labels(e, i), 16));
    for (uint32_t i = 0; i < e->access_count; i++) {
        const struct access *a = &e->accesses[i];
        if (a->is_write) continue;
        load(e, a, followed_size(a), value);
        all = join(e, all, join_all(e, value, followed_size(a)));
    }
    return e->access_count ? join(e, all, address_label(e)) : all;
}

/* All outputs from all inputs. */
static void apply_generic(struct engine *e, const struct rule *r)
{
    if (r->bits & B_MEMORY && !e->access_count) return; /* cmps or scas with a count of 0 */
    label all = generic_inputs(e, r) & ~DISTANCE, number = all & ~POINTER, value[MAX_WIDTH];
    if (r->bits & B_WRITES_FLAGS) e->flags = number;
    for (uint32_t i = 0; i < GENERAL_COUNT; i++)
        if (r->writes >> i & 1) {
            label l = all & POINTER && !looks_like_pointer(e, general(e, i)) ? number : all;
            fill(register_labels(e, i), l, 8);
            set_live(e, i, l != 0);
        }
    for (uint32_t i = 0; i < 16; i++)
        if (r->writes >> (16 + i) & 1) fill(vector_labels(e, i), number, 16);
    fill(value, number, MAX_WIDTH);
    for (uint32_t i = 0; i < e->access_count; i++)
        if (e->accesses[i].is_write) store(e, &e->accesses[i], followed_size(&e->accesses[i]), value);
}

/* Where a jump or call through a register or through memory leads. */
static uint64_t jump_target(struct engine *e, const struct rule *r)
{
    if (r->source_kind == O_REGISTER) return general(e, r->source / 8);
    uint64_t target = 0;
    for (uint32_t i = 0; i < e->access_count; i++) {
        const struct access *a = &e->accesses[i];
        if (a->is_write) continue;
        target = crosses_page(a->paddr, 8) ? e->home_text /* no compiler lays a function pointer so */ : word_at(e, a->paddr);
    }
    return target;
}

/* A jump or call through a register or through memory must not lead home by the snapshot's word. */
static void apply_jump(struct engine *e, const struct rule *r)
{
    static const label clean[MAX_WIDTH];
    label value[MAX_WIDTH];
    if (r->source_kind != O_NONE) {
        fetch(e, r->source_kind, r->source, 8, value);
        if (value[7] & POINTER && is_trusted_vaddr(e, jump_target(e, r)))
            event(e, E_FORGED, e->pending_vaddr, 0, value[7]);
    }
    write_memory(e, clean, 8); /* the return address of a call */
}

/* --- the instruction under way ----------------------------------------------------------------------------- */

/* Before the instruction takes effect: take its rule, and the labels of its address. */
static void begin_instruction(struct engine *e, const struct rule *r, uint64_t vaddr)
{
    e->pending = r;
    e->pending_vaddr = vaddr;
    e->access_count = 0;
    e->base_label = e->index_label = 0;
    if (r->bits & B_KEEPS_TARGET && r->kind != K_ALU)
        e->old_target = general(e, r->kind == K_COMPARESWAP ? 0 : r->target / 8);
    if (!(r->bits & B_MEMORY)) return;
    if (r->base < GENERAL_COUNT) e->base_label = join_register(e, r->base);
    if (r->index < GENERAL_COUNT) e->index_label = join_register(e, r->index);
    if (r->bits & B_STATIC) { /* the registers only count from a static address */
        e->index_label = join(e, e->base_label, e->index_label) & ~ADDRESS;
        e->base_label = POINTER;
    } else if (cancel(e->base_label, e->index_label)) {
        e->base_label = e->index_label = 0;
    }
}

static void remember_static_load(struct engine *e)
{
    const struct access *a = &e->accesses[0];
    if (!e->access_count || a->is_write) return;
    e->static_loads[(uint32_t)(a->paddr >> 3) % STATIC_LOADS] = (struct static_load){a->paddr, e->pending_vaddr};
}

/* The instruction under way took effect. */
static void finish_instruction(struct engine *e)
{
    const struct rule *r = e->pending;
    if (!r) return;
    e->pending = 0;
    if (e->access_count) check_accesses(e, r);
    switch (r->kind) {
    case K_COPY: apply_copy(e, r); break;
    case K_CLEAR: apply_clear(e, r); break;
    case K_ALU: apply_alu(e, r); break;
    case K_BITS: apply_bits(e, r); break;
    case K_SWAP:
    case K_ADDSWAP: apply_swap(e, r); break;
    case K_COMPARESWAP: apply_compare_swap(e, r); break;
    case K_STRING: apply_string(e, r); break;
    case K_GENERIC: apply_generic(e, r); break;
    case K_JUMP: apply_jump(e, r); break;
    default: break;
    }
    if (r->bits & B_STATIC && r->bits & B_MEMORY) remember_static_load(e);
}

#endif
