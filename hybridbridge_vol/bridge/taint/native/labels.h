/* Labels: unions of the bytes that they name, and pointers that cancel each other. */
#ifndef HYBRIDBRIDGE_LABELS_H
#define HYBRIDBRIDGE_LABELS_H

#include "engine.h"

static inline label leaf(uint64_t offset, uint64_t length) { return length << LEAF_BITS | offset; }

static inline int has_data(label l) { return (l & (PAYLOAD | SEEDED)) != 0; }

/* One leaf for two that overlap or touch; 0 if they do not, or if it would be too long. */
static inline label merged_leaf(label a, label b)
{
    uint64_t mask = (1ull << LEAF_BITS) - 1;
    uint64_t a_start = a & mask, a_end = a_start + (a >> LEAF_BITS);
    uint64_t b_start = b & mask, b_end = b_start + (b >> LEAF_BITS);
    if (a_start > b_end || b_start > a_end) return 0;
    uint64_t start = a_start < b_start ? a_start : b_start, end = a_end > b_end ? a_end : b_end;
    return end - start <= LEAF_MAX ? leaf(start, end - start) : 0;
}

static inline int is_child(const struct engine *e, label node, label l)
{
    const struct node *n = &e->nodes[node & ~NODE];
    return n->left == l || n->right == l;
}

/* The node of two payloads, `a < b`; each pair has one node. */
static label node_of(struct engine *e, label a, label b)
{
    e->statistics.joins++;
    uint64_t hash = (a * 0x9E3779B97F4A7C15ull) ^ (b * 0xC2B2AE3D27D4EB4Full);
    hash ^= hash >> 29;
    for (uint32_t slot = (uint32_t)(hash % NODE_HASH);; slot = slot + 1 == NODE_HASH ? 0 : slot + 1) {
        uint32_t number = e->node_hash[slot];
        if (!number) {
            if (e->node_count >= MAX_NODES - 1) return SEEDED;
            number = ++e->node_count;
            e->nodes[number].left = a;
            e->nodes[number].right = b;
            e->node_hash[slot] = number;
            return NODE | number;
        }
        if (e->nodes[number].left == a && e->nodes[number].right == b) return NODE | number;
    }
}

static label join_payload(struct engine *e, label a, label b)
{
    if (!a || a == b) return b;
    if (!b) return a;
    if (a > b) { label t = a; a = b; b = t; }
    if (!((a | b) & NODE)) {
        label merged = merged_leaf(a, b);
        if (merged) return merged;
    } else {
        if (b & NODE && is_child(e, b, a)) return b;
        if (a & NODE && is_child(e, a, b)) return a;
    }
    return node_of(e, a, b);
}

static inline label join(struct engine *e, label a, label b)
{
    return ((a | b) & FLAGS) | join_payload(e, a & PAYLOAD, b & PAYLOAD);
}

/* The label of a whole value. It is a pointer only as a whole: its parts are numbers. */
static label join_all(struct engine *e, const label *in, uint32_t size)
{
    label all = 0;
    for (uint32_t i = 0; i < size; i++)
        if (in[i] != all) all = join(e, all, in[i]);
    return (all & ~ADDRESS) | (size == 8 ? in[7] & ADDRESS : 0);
}

static inline label join_register(struct engine *e, uint32_t number)
{
    return is_live(e, number) ? join_all(e, register_labels(e, number), 8) : 0;
}

/* Whether one is a pointer of the snapshot's and the other a distance from that pointer: the snapshot does not determine
 * their sum. Compilers walk two arrays with one index that way. */
static inline int cancel(label a, label b)
{
    return (((a & ADDRESS) == POINTER && (b & ADDRESS) == DISTANCE) ||
            ((a & ADDRESS) == DISTANCE && (b & ADDRESS) == POINTER)) &&
           (a & PAYLOAD) == (b & PAYLOAD) && (a & PAYLOAD);
}

/* Whether a payload names one of the two variables by which the kernel counts pages. */
static int names_a_base(const struct engine *e, label l, uint32_t depth)
{
    l &= PAYLOAD;
    if (!l || depth > MAX_BASES_DEPTH) return 0;
    if (l & NODE) {
        const struct node *n = &e->nodes[l & ~NODE];
        return names_a_base(e, n->left, depth + 1) || names_a_base(e, n->right, depth + 1);
    }
    uint64_t start = l & ((1ull << LEAF_BITS) - 1), end = start + (l >> LEAF_BITS);
    return (start <= e->page_offset_word && e->page_offset_word + 8 <= end) ||
           (start <= e->vmemmap_word && e->vmemmap_word + 8 <= end);
}

/* Whether an address is one from which a base of the snapshot's regions was taken, and to which it was added again: the
 * twin computes the struct page of memory of ours, and from that the memory (virt_to_page and page_address,
 * include/linux/mm.h). A pointer of the snapshot's to which a base was added has no distance in it. */
static inline int is_round_trip(const struct engine *e, label l)
{
    return (l & ADDRESS) == ADDRESS && names_a_base(e, l, 0);
}

#endif
