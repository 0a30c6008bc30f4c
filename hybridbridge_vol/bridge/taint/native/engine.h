/* The engine's data: rules, accesses, labels of registers and memory, and what Python fills in.
 *
 * bridge/taint/rules.py mirrors `struct rule` and the enumerations, bridge/taint/native_library.py mirrors the first
 * part of `struct engine`; `engine_layout` lets Python compare the sizes. All functions of the headers are static:
 * taint.c includes them and is compiled alone, so the compiler sees the whole engine at once.
 */
#ifndef HYBRIDBRIDGE_ENGINE_H
#define HYBRIDBRIDGE_ENGINE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A label is 64 bits. Its payload names bytes of the snapshot: a leaf is one range of them (offset in bits 0-39, length
 * in bits 40-51), a node is the union of two labels and has a number in the table of nodes. Flags stand above it. */
typedef uint64_t label;

#define POINTER (1ull << 63)  /* an address that the snapshot determines */
#define TRUSTED (1ull << 62)  /* from the trusted kernel's own changing state */
#define SEEDED (1ull << 61)   /* from the snapshot, but its origin was not observed */
#define NODE (1ull << 60)     /* the payload is a node's number */
#define DISTANCE (1ull << 59) /* a distance from the snapshot's pointer with this payload, which cancels that pointer */
#define ADDRESS (POINTER | DISTANCE)
#define FLAGS (ADDRESS | TRUSTED | SEEDED)
#define PAYLOAD (~FLAGS)
#define UNSET (~0ull) /* in a shadow page: not stored to since the page's shadow was made */
#define LEAF_BITS 40
#define LEAF_MAX 4095

#define PAGE 4096u
#define GENERAL_COUNT 16u
#define GENERAL_BYTES 128
#define VECTOR_BYTES 256
#define REGISTER_BYTES (GENERAL_BYTES + VECTOR_BYTES)

#define MAX_ACCESSES 64        /* of one instruction */
#define MAX_WIDTH 64           /* bytes of one access that are followed */
#define MAX_NODES (1u << 22)   /* when all are used, further unions are SEEDED */
#define NODE_HASH (MAX_NODES * 2u)
#define MANY_SHADOWS 1024      /* pages of labels, 16 MiB, whose memory is given back when they are dropped */
#define MAX_EVENTS 256         /* of one run */
#define MAX_BASES_DEPTH 16     /* of unions, where only the regions' bases are looked for */
#define STATIC_LOADS 65536u    /* entries of the cache of static loads */
#define FIRST_RULES 4096       /* room for rules at first */
#define FIRST_SNAPSHOT_PAGES 1024 /* room for shadow pages of the snapshot at first; a power of two */

enum rule_kind {
    K_NONE, K_COPY, K_CLEAR, K_ALU, K_BITS, K_SWAP, K_ADDSWAP, K_COMPARESWAP, K_STRING, K_GENERIC, K_TRAMPOLINE, K_JUMP
};
enum operand_kind { O_NONE, O_REGISTER, O_MEMORY, O_CONSTANT, O_SNAPSHOT_ADDRESS };
enum bits {
    B_READS_FLAGS = 1, B_WRITES_FLAGS = 2, B_POPS = 4, B_SIGN_EXTENDS = 8, B_MEMORY = 16, B_STATIC = 32, B_PUSHES = 64,
    B_KEEPS_TARGET = 128, /* with K_COPY, K_COMPARESWAP */
    B_TWO_STRINGS = 128,  /* with K_GENERIC */
    B_SUBTRACTS = 128     /* with K_ALU */
};
enum event_kind { E_FORGED = 1, E_UNATTRIBUTED = 2, E_OUTSIDE = 3 };
enum region { R_TRUSTED, R_USER, R_SNAPSHOT, R_OTHER }; /* R_OTHER: the twin's constants, devices */

/* What one instruction does to labels; see bridge/taint/rules.py. */
struct rule {
    uint8_t kind, bits;
    uint8_t target_kind, source_kind, second_kind;
    uint8_t target_size, source_size, second_size;
    uint16_t target, source, second; /* first bytes of registers in the register file */
    uint8_t base, index;             /* general registers of the address, 255: none */
    uint32_t reads, writes;          /* K_GENERIC: bits 0-15 general, 16-31 vector registers; K_TRAMPOLINE: arguments
                                        that must be trusted, and whether that is optional */
    uint64_t mask;                   /* K_BITS: bytes (0xff each) whose label may survive; others become clean */
};

/* One access of the instruction under way. `value` is what is written. Where it crosses the end of a page, `next_paddr`
 * is the page in which it ends, 0 if that is not known. */
struct access { uint64_t paddr, value, next_paddr; uint32_t size, is_write; };

struct event { uint32_t kind, twin; uint64_t vaddr, paddr; label what; };
struct node { label left, right; };
struct area { uint64_t vaddr, size, offset; };                 /* a module's segment; its offset behind the twin */
struct mapped_region { uint64_t paddr, size; uint8_t *host; }; /* where guest-physical memory is in this process */
struct static_load { uint64_t paddr, vaddr; };                 /* a word, and the static reference that loaded it */

struct statistics {
    uint64_t instructions, twin_instructions, trampolines, loads, stores, snapshot_loads, joins, events, rules_missed;
    uint64_t split; /* accesses across the end of a page of which only the first part was followed */
};

/* Functions of Unicorn and of Python that the engine calls. */
typedef int (*register_read)(void *uc, int number, void *value);
typedef int (*emulation_stop)(void *uc);
typedef int (*miss_callback)(uint64_t vaddr);
typedef int (*foreign_callback)(uint64_t paddr, uint64_t value);
typedef int (*trampoline_callback)(uint64_t vaddr, uint32_t number, label what);
typedef uint64_t (*split_callback)(uint64_t vaddr, uint64_t paddr);

struct engine {
    void *uc;
    register_read read_register;
    emulation_stop stop;
    miss_callback on_miss;             /* an instruction has no rule: decode its block; 0 if there is no code */
    foreign_callback on_foreign;       /* a word of the snapshot points to our side: does the image hold it? */
    trampoline_callback on_trampoline; /* an argument must be ours and is not: was it replaced? */
    split_callback on_split;           /* where is the second page of this access? 0 if not known */
    int32_t register_numbers[GENERAL_COUNT];
    uint64_t home_text, twin_text, text_size;                     /* vaddr, vaddr, bytes */
    uint64_t constant_start, constant_end;                        /* paddr of home's text and .rodata */
    uint64_t trusted_size, user_paddr, user_size, snapshot_paddr; /* the regions */
    uint64_t upper_half;                                          /* vaddr: the lowest that a kernel can have */
    uint64_t trusted_vaddr, trusted_vaddr_end;                    /* the hole of it that the trusted kernel uses */
    uint64_t twin_constant_end, ro_after_init, ro_after_init_end; /* offsets: what of the window the twin provides */
    uint64_t modules_start, modules_end; /* vaddr: the snapshot's data, but for the areas */
    uint64_t per_cpu, per_cpu_end;       /* offsets: names of per-CPU variables, where no data lie */
    uint64_t page_offset_word, vmemmap_word; /* in the snapshot: its variables of the regions' bases; ~0: not to be relied on */
    struct statistics statistics;
    /* --- from here on Python does not look --- */
    struct mapped_region *regions; /* ascending */
    uint32_t region_count;
    struct area *areas;
    uint32_t area_count, last_area;
    uint64_t twin_size;                /* bytes of the twin's window with the modules' segments behind it */
    uint32_t *home_rules, *twin_rules; /* by offset: the number of the rule of the instruction there, 0: not decoded */
    struct rule *rules;
    uint32_t rule_count, rule_capacity;
    label registers[REGISTER_BYTES];
    label flags;
    uint32_t live; /* bit r: a byte of general register r has a label */
    /* the instruction under way: its rule, and what is known of it before it takes effect */
    const struct rule *pending;
    uint64_t pending_vaddr;
    label base_label, index_label;
    uint64_t old_target;
    uint32_t access_count;
    struct access accesses[MAX_ACCESSES];
    /* shadow pages: PAGE labels each, or 0; the snapshot's in a hash table by page number */
    label **trusted_shadow, **user_shadow;
    uint64_t *snapshot_keys;
    label **snapshot_shadow;
    uint64_t snapshot_capacity, snapshot_used;
    struct node *nodes;
    uint32_t node_count;
    uint32_t *node_hash;
    struct static_load *static_loads;
    struct event events[MAX_EVENTS];
    uint32_t event_count;
    uint32_t stopped;
    /* words of the snapshot's memory that were read: a bit for each, and their numbers; see reads.h */
    uint8_t *words_read;
    uint64_t watched_words, read_count, read_capacity;
    uint32_t *reads;
};

/* The value of a general register before the instruction under way. */
static inline uint64_t general(struct engine *e, uint32_t number)
{
    uint64_t value = 0;
    e->read_register(e->uc, e->register_numbers[number], &value);
    return value;
}

static inline int is_live(const struct engine *e, uint32_t number) { return e->live >> number & 1; }

static inline label *register_labels(struct engine *e, uint32_t number) { return &e->registers[number * 8]; }

static inline label *vector_labels(struct engine *e, uint32_t number)
{
    return &e->registers[GENERAL_BYTES + number * 16];
}

static inline void set_live(struct engine *e, uint32_t number, int live)
{
    if (live) e->live |= 1u << number;
    else e->live &= ~(1u << number);
}

#endif
