/* What must not happen, found and kept as events: forged pointers, unattributed accesses, foreign code. */
#ifndef HYBRIDBRIDGE_CHECKS_H
#define HYBRIDBRIDGE_CHECKS_H

#include "address_map.h"
#include "labels.h"

/* Keep an event, one for each kind and instruction. After a forged pointer or foreign code the run ends. */
static void event(struct engine *e, uint32_t kind, uint64_t vaddr, uint64_t paddr, label what)
{
    e->statistics.events++;
    for (uint32_t i = 0; i < e->event_count; i++)
        if (e->events[i].kind == kind && e->events[i].vaddr == vaddr) return;
    if (e->event_count < MAX_EVENTS) {
        uint32_t twin = vaddr - e->home_text >= e->text_size;
        e->events[e->event_count++] = (struct event){kind, twin, vaddr, paddr, what};
    }
    if (kind == E_FORGED || kind == E_OUTSIDE) {
        e->stopped = 1;
        e->stop(e->uc);
    }
}

/* The rule of HYBRID-BRIDGE (section 4 of the paper): an address with the pointer label stays inside the snapshot, an
 * address without any label stays outside. */
static void check_one_address(struct engine *e, label base, label index, uint64_t paddr)
{
    enum region region = region_of(e, paddr);
    if (region == R_SNAPSHOT) {
        if (!((base | index) & POINTER) && !has_data(base) && !has_data(index))
            event(e, E_UNATTRIBUTED, e->pending_vaddr, paddr, 0);
    } else if ((base | index) & POINTER && region != R_OTHER && !is_round_trip(e, base & POINTER ? base : index)) {
        event(e, E_FORGED, e->pending_vaddr, paddr, base & POINTER ? base : index);
    }
}

/* Check every access of the instruction under way, by the part of the address that it used. */
static void check_accesses(struct engine *e, const struct rule *r)
{
    for (uint32_t i = 0; i < e->access_count; i++) {
        const struct access *a = &e->accesses[i];
        label base = e->base_label, index = e->index_label;
        if (r->kind == K_STRING && r->index < GENERAL_COUNT) { /* movs reads by its base and writes by its index */
            if (a->is_write) base = 0;
            else index = 0;
        }
        if (r->kind == K_GENERIC && r->bits & B_TWO_STRINGS) { /* cmps reads by rdi, then by rsi */
            if (i == 0) base = 0;
            else index = 0;
        }
        if (r->bits & (a->is_write ? B_PUSHES : B_POPS)) base = index = 0; /* the stack's, not the operand's */
        check_one_address(e, base, index, a->paddr);
        if (a->next_paddr) check_one_address(e, base, index, a->next_paddr);
    }
}

/* At a trampoline: arguments that must be the trusted kernel's. Python may replace one that is not. */
static void check_arguments(struct engine *e, const struct rule *r, uint64_t vaddr)
{
    for (uint32_t i = 0; i < GENERAL_COUNT; i++) {
        label *argument = register_labels(e, i);
        if (!(r->reads >> i & 1) || !(argument[7] & POINTER)) continue;
        label all = join_all(e, argument, 8);
        if (is_round_trip(e, all)) continue;
        if (e->on_trampoline(vaddr, i, all)) {
            memset(argument, 0, 8 * sizeof(label));
            set_live(e, i, 0);
        } else if (!r->writes) {
            event(e, E_FORGED, vaddr, 0, all);
        }
    }
}

#endif
