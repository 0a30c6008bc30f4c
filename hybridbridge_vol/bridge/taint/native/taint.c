/* The taint engine: byte-granular shadow state over every guest instruction that SLOW-BRIDGE executes.
 *
 * Three callbacks run inside Unicorn: one before each instruction, one at each memory read and write. An instruction's
 * transfer rule (made by bridge/rules.py, once per distinct instruction) is applied when the *next* instruction
 * begins: by then the memory hooks have told which physical addresses it touched. Only what depends on the registers
 * before execution, the labels of the address, is taken beforehand.
 *
 * A label is 64 bits. Its payload names bytes of the snapshot: a leaf is a range of them (offset and length), a node
 * is the union of two labels, kept once in a table. Above the payload stand flags. See bridge/taint.py, which mirrors
 * the constants and structures below (checked by `engine_layout`).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t label;

#define POINTER (1ull << 63) /* points where the snapshot says */
#define TRUSTED (1ull << 62) /* from the trusted kernel's own changing state */
#define SEEDED (1ull << 61)  /* from the snapshot, but nobody saw from where */
#define NODE (1ull << 60)
#define DISTANCE (1ull << 59) /* from where the snapshot's pointer with this payload leads: added to it, it cancels it */
#define ADDRESS (POINTER | DISTANCE)
#define FLAGS (ADDRESS | TRUSTED | SEEDED)
#define PAYLOAD (~FLAGS)
#define UNSET (~0ull) /* in a shadow page: not stored to since the page's shadow began */
#define LEAF_BITS 40
#define LEAF_MAX 4095

#define PAGE 4096u
#define GENERAL_BYTES 128
#define VECTOR_BYTES 256
#define REGISTER_BYTES (GENERAL_BYTES + VECTOR_BYTES)
#define MAX_ACCESSES 64
#define MAX_WIDTH 64
#define MAX_NODES (1u << 22)
#define MAX_EVENTS 256

enum kind { K_NONE, K_COPY, K_CLEAR, K_ALU, K_BITS, K_SWAP, K_ADDSWAP, K_COMPARESWAP, K_STRING, K_GENERIC, K_TRAMPOLINE, K_JUMP };
enum place { O_NONE, O_REGISTER, O_MEMORY, O_CONSTANT, O_SNAPSHOT_ADDRESS };
enum bits { B_READS_FLAGS = 1, B_WRITES_FLAGS = 2, B_POPS = 4, B_SIGN_EXTENDS = 8, B_MEMORY = 16, B_STATIC = 32,
            B_PUSHES = 64, B_KEEPS_TARGET = 128,
            B_TWO_STRINGS = 128 /* with K_GENERIC */, B_SUBTRACTS = 128 /* with K_ALU */ };
enum event_kind { E_FORGED = 1, E_UNATTRIBUTED = 2, E_OUTSIDE = 3 };
enum region { R_TRUSTED, R_USER, R_SNAPSHOT, R_OTHER };

struct rule {
    uint8_t kind, bits;
    uint8_t target_place, source_place, second_place;
    uint8_t target_size, source_size, second_size;
    uint16_t target, source, second;  /* byte slots of registers */
    uint8_t base, index;              /* general registers of the address, 255: none */
    uint32_t reads, writes;           /* K_GENERIC: bits 0-15 general, 16-31 vector registers; K_TRAMPOLINE: to be trusted */
    uint64_t mask;                    /* K_BITS: bytes (0xff each) that can survive; others become clean */
};

struct access { uint64_t paddr, value, next; uint32_t size, is_write; }; /* where it begins; what is written; and,
    if it goes over the end of a page, where the next one is: 0 if nobody knows */
struct event { uint32_t kind, twin; uint64_t vaddr, paddr; label what; };
struct node { label left, right; };
struct area { uint64_t vaddr, size, offset; }; /* a module's trusted part; offset: its place behind the twin */
struct region_map { uint64_t paddr, size; uint8_t *host; };

struct statistics {
    uint64_t instructions, twin_instructions, trampolines, loads, stores, snapshot_loads, joins, events, rules_missed, split;
};

/* Functions of Unicorn and of Python that the engine calls. */
typedef int (*register_read)(void *uc, int number, void *value);
typedef int (*emulation_stop)(void *uc);
typedef int (*miss_callback)(uint64_t vaddr);
typedef int (*foreign_callback)(uint64_t paddr, uint64_t value);
typedef int (*trampoline_callback)(uint64_t vaddr, uint32_t index, label what);
typedef uint64_t (*split_callback)(uint64_t vaddr, uint64_t paddr);

struct engine {
    void *uc;
    register_read read_register;
    emulation_stop stop;
    miss_callback on_miss;
    foreign_callback on_foreign;
    trampoline_callback on_trampoline;
    split_callback on_split;
    int32_t register_numbers[16];
    uint64_t home_text, twin_text, text_size;
    uint64_t constant_start, constant_end;      /* paddr of home's text and .rodata */
    uint64_t trusted_size, user_paddr, user_size, snapshot_paddr;
    uint64_t trusted_vaddr, trusted_vaddr_end;  /* the guard hole and ... */
    uint64_t twin_constant_end, ro_after_init, ro_after_init_end; /* offsets: what of the window the twin provides */
    uint64_t modules_start, modules_end;        /* vaddr: but for the areas, the snapshot's data */
    uint64_t per_cpu, per_cpu_end;              /* offsets: names of per-CPU variables, where nothing lies */
    struct statistics statistics;
    /* --- from here on Python does not look --- */
    struct region_map *regions;
    uint32_t region_count;
    struct area *areas;
    uint32_t area_count, last_area;
    uint64_t twin_size; /* of the twin's window with the modules behind it */
    uint32_t *home_rules, *twin_rules;
    struct rule *rules;
    uint32_t rule_count, rule_capacity;
    label registers[REGISTER_BYTES];
    label flags;
    uint32_t live; /* bit r: general register r has a label */
    const struct rule *pending;
    uint64_t pending_vaddr;
    label base_label, index_label;
    uint64_t old_target;
    uint32_t access_count;
    struct access accesses[MAX_ACCESSES];
    label **trusted_shadow, **user_shadow;
    uint64_t *snapshot_keys;
    label **snapshot_shadow;
    uint64_t snapshot_capacity, snapshot_used;
    struct node *nodes;
    uint32_t node_count;
    uint32_t *node_hash;
    uint64_t *static_loads; /* pairs: paddr, vaddr of the instruction; a cache */
    struct event events[MAX_EVENTS];
    uint32_t event_count;
    uint32_t stopped;
};

#define NODE_HASH (MAX_NODES * 2u)
#define STATIC_LOADS 65536u

/* --- labels ----------------------------------------------------------------------------------------------- */

static inline label leaf(uint64_t offset, uint64_t length) { return length << LEAF_BITS | offset; }

static inline int has_data(label l) { return (l & (PAYLOAD | SEEDED)) != 0; }

static label join_payload(struct engine *e, label a, label b)
{
    if (!a || a == b) return b;
    if (!b) return a;
    if (a > b) { label t = a; a = b; b = t; }
    if (!((a | b) & NODE)) {
        uint64_t mask = (1ull << LEAF_BITS) - 1;
        uint64_t a0 = a & mask, a1 = a0 + (a >> LEAF_BITS), b0 = b & mask, b1 = b0 + (b >> LEAF_BITS);
        if (a0 <= b1 && b0 <= a1) {
            uint64_t start = a0 < b0 ? a0 : b0, end = a1 > b1 ? a1 : b1;
            if (end - start <= LEAF_MAX) return leaf(start, end - start);
        }
    } else {
        if (b & NODE) {
            struct node *n = &e->nodes[b & ~NODE];
            if (n->left == a || n->right == a) return b;
        }
        if (a & NODE) {
            struct node *n = &e->nodes[a & ~NODE];
            if (n->left == b || n->right == b) return a;
        }
    }
    e->statistics.joins++;
    uint64_t h = (a * 0x9E3779B97F4A7C15ull) ^ (b * 0xC2B2AE3D27D4EB4Full);
    h ^= h >> 29;
    for (uint32_t slot = (uint32_t)(h % NODE_HASH);; slot = slot + 1 == NODE_HASH ? 0 : slot + 1) {
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

static inline label join(struct engine *e, label a, label b)
{
    return ((a | b) & FLAGS) | join_payload(e, a & PAYLOAD, b & PAYLOAD);
}

/* A pointer of the snapshot's and a distance from there, both made of the same bytes: their sum is no longer its word.
 * Compilers walk two arrays with one index that way. */
static inline int cancel(label a, label b)
{
    return (((a & ADDRESS) == POINTER && (b & ADDRESS) == DISTANCE) ||
            ((a & ADDRESS) == DISTANCE && (b & ADDRESS) == POINTER)) &&
           (a & PAYLOAD) == (b & PAYLOAD) && (a & PAYLOAD);
}

/* Values that can be kernel pointers: the upper half, which begins with the guard hole, without its last 16 MiB
 * (errors, small negative numbers). */
static inline int pointerish(const struct engine *e, uint64_t value)
{
    return value >= e->trusted_vaddr && value < 0xFFFFFFFFFF000000ull;
}

static int is_trusted_vaddr(const struct engine *e, uint64_t value)
{
    return (value >= e->trusted_vaddr && value < e->trusted_vaddr_end) || value - e->home_text < e->text_size;
}

/* An address in the kernel image's window that names a per-CPU variable: whose, is what is added to it. */
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

/* Which text an instruction belongs to and where in it: home, or the twin with the modules behind it. */
static int is_code(struct engine *e, uint64_t vaddr, int *twin, uint64_t *offset)
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

/* An address where the snapshot's static data lie: in the kernel image's window, but not the twin's own text and
 * constants; in the modules area, but not a module's trusted part. */
static int is_snapshot_static(struct engine *e, uint64_t value)
{
    uint64_t offset = value - e->twin_text;
    if (value >= e->modules_start && value < e->modules_end) return !area_of(e, value);
    return offset < e->text_size && !is_per_cpu_name(e, value) &&
           (offset >= e->twin_constant_end || (offset >= e->ro_after_init && offset < e->ro_after_init_end));
}

/* A value that nobody has seen coming, taken for a pointer of the snapshot's. */
static inline int leads_to_snapshot(const struct engine *e, uint64_t value)
{
    return pointerish(e, value) && !is_trusted_vaddr(e, value) && !is_per_cpu_name(e, value);
}

/* --- memory ----------------------------------------------------------------------------------------------- */

static inline enum region region_of(const struct engine *e, uint64_t paddr)
{
    if (paddr < e->trusted_size) return R_TRUSTED;
    if (paddr >= e->snapshot_paddr) return R_SNAPSHOT;
    if (paddr - e->user_paddr < e->user_size) return R_USER;
    return R_OTHER;
}

/* Where `size` bytes of one region are in this process; 0 if they are not in one. */
static uint8_t *host(const struct engine *e, uint64_t paddr, uint64_t size)
{
    uint32_t low = 0, high = e->region_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct region_map *r = &e->regions[middle];
        if (paddr < r->paddr) high = middle;
        else if (paddr - r->paddr >= r->size) low = middle + 1;
        else return size <= r->size - (paddr - r->paddr) ? r->host + (paddr - r->paddr) : 0;
    }
    return 0;
}

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

static label *new_shadow(void)
{
    label *page = malloc(PAGE * sizeof(label));
    if (page) memset(page, 0xff, PAGE * sizeof(label));
    return page;
}

static label **snapshot_slot(struct engine *e, uint64_t number, int create)
{
    if (create && e->snapshot_used * 2 >= e->snapshot_capacity) {
        uint64_t old = e->snapshot_capacity;
        uint64_t *keys = e->snapshot_keys;
        label **pages = e->snapshot_shadow;
        e->snapshot_capacity = old ? old * 2 : 1024;
        e->snapshot_keys = calloc(e->snapshot_capacity, sizeof(uint64_t));
        e->snapshot_shadow = calloc(e->snapshot_capacity, sizeof(label *));
        e->snapshot_used = 0;
        for (uint64_t i = 0; i < old; i++)
            if (pages[i]) *snapshot_slot(e, keys[i], 1) = pages[i];
        free(keys);
        free(pages);
    }
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

/* The label of a byte nobody stored to: by where it lies and what it holds. */
static label untouched(struct engine *e, enum region region, uint64_t paddr, int word_is_pointer, label word)
{
    if (region == R_SNAPSHOT) return leaf(paddr - e->snapshot_paddr, 1) | (word_is_pointer ? POINTER : 0);
    if (region == R_TRUSTED) {
        if (paddr >= e->constant_start && paddr < e->constant_end) return 0;
        return word ? word : TRUSTED;
    }
    return 0;
}

/* Labels of bytes of one page. */
static void load_in_page(struct engine *e, uint64_t paddr, uint32_t size, label *out)
{
    enum region region = region_of(e, paddr);
    e->statistics.loads++;
    if (region == R_OTHER) { /* the twin's .rodata: some of its relocated pointers lead into the snapshot */
        label l = size == 8 && is_snapshot_static(e, word_at(e, paddr)) ? POINTER : 0;
        for (uint32_t i = 0; i < size; i++) out[i] = l;
        return;
    }
    label *page = shadow_of(e, region, paddr, 0);
    uint32_t at = paddr % PAGE, unset = 0;
    if (page) {
        for (uint32_t i = 0; i < size; i++) {
            out[i] = page[at + i];
            unset += out[i] == UNSET;
        }
        if (!unset) return;
    }
    int pointer = 0;
    label word = 0;
    if (size == 8 && (!page || unset == 8)) {
        if (region == R_SNAPSHOT) {
            uint64_t value = word_at(e, paddr);
            pointer = pointerish(e, value) && !is_per_cpu_name(e, value);
            if (pointer && is_trusted_vaddr(e, value) && !e->on_foreign(paddr, value)) {
                /* a pointer of ours that was put there by us */
                memset(out, 0, size * sizeof(label));
                return;
            }
        } else if (region == R_TRUSTED && !(paddr >= e->constant_start && paddr < e->constant_end)) {
            uint64_t value = word_at(e, paddr);
            if (leads_to_snapshot(e, value)) word = POINTER | SEEDED;
        }
    }
    if (region == R_SNAPSHOT) e->statistics.snapshot_loads++;
    for (uint32_t i = 0; i < size; i++)
        if (!page || out[i] == UNSET) out[i] = untouched(e, region, paddr + i, pointer, word);
}

/* The value that an access read, as far as it is known where it lies. */
static uint64_t value_at(const struct engine *e, const struct access *a, uint32_t size)
{
    uint32_t room = left_in_page(a->paddr);
    if (size <= room) return number_at(e, a->paddr, size);
    return number_at(e, a->paddr, room) | (a->next ? number_at(e, a->next, size - room) << (8 * room) : 0);
}

/* A word in two pages is a pointer if all of it is the snapshot's and looks like one; where only its first part is known,
 * it may be one, whatever that holds. */
static int is_split_pointer(struct engine *e, const struct access *a, const label *in)
{
    if (a->next && !pointerish(e, value_at(e, a, 8))) return 0;
    for (uint32_t i = 0; i < 8; i++)
        if (!has_data(in[i])) return 0;
    return region_of(e, a->paddr) == R_SNAPSHOT;
}

static void load(struct engine *e, const struct access *a, uint32_t size, label *out)
{
    uint32_t room = left_in_page(a->paddr), data = 0;
    load_in_page(e, a->paddr, size < room ? size : room, out);
    if (size <= room) return;
    if (a->next) {
        load_in_page(e, a->next, size - room, out + room);
    } else { /* the rest is like the first part */
        for (uint32_t i = 0; i < room; i++) data |= has_data(out[i]);
        for (uint32_t i = room; i < size; i++) out[i] = data ? SEEDED : 0;
    }
    if (size == 8 && is_split_pointer(e, a, out))
        for (uint32_t i = 0; i < size; i++) out[i] |= POINTER;
}

static void store_in_page(struct engine *e, uint64_t paddr, uint32_t size, const label *in)
{
    enum region region = region_of(e, paddr);
    if (region == R_OTHER) return;
    label *page = shadow_of(e, region, paddr, 1);
    if (page) memcpy(&page[paddr % PAGE], in, size * sizeof(label));
}

/* Where nobody knows, the second page is nearly always the next; where it is not, that does not hold the value. */
static void store(struct engine *e, const struct access *a, uint32_t size, const label *in)
{
    uint32_t room = left_in_page(a->paddr);
    e->statistics.stores++;
    store_in_page(e, a->paddr, size < room ? size : room, in);
    if (size <= room) return;
    if (a->next) {
        store_in_page(e, a->next, size - room, in + room);
        return;
    }
    if (a->size > 8) return;
    if (number_at(e, a->paddr + room, a->size - room) == (a->value & size_mask(a->size)) >> (8 * room))
        store_in_page(e, a->paddr + room, size - room, in + room);
}

/* --- events ----------------------------------------------------------------------------------------------- */

static void event(struct engine *e, uint32_t kind, uint64_t vaddr, uint64_t paddr, label what)
{
    e->statistics.events++;
    for (uint32_t i = 0; i < e->event_count; i++)
        if (e->events[i].kind == kind && e->events[i].vaddr == vaddr) return;
    if (e->event_count < MAX_EVENTS) {
        struct event *slot = &e->events[e->event_count++];
        slot->kind = kind;
        slot->twin = vaddr - e->home_text >= e->text_size;
        slot->vaddr = vaddr;
        slot->paddr = paddr;
        slot->what = what;
    }
    if (kind == E_FORGED || kind == E_OUTSIDE) {
        e->stopped = 1;
        e->stop(e->uc);
    }
}

/* Paper, section 4: an address with the pointer label stays inside the snapshot, one without any label outside. */
static void check_place(struct engine *e, label base, label index, uint64_t paddr)
{
    enum region region = region_of(e, paddr);
    if (region == R_SNAPSHOT) {
        if (!((base | index) & POINTER) && !has_data(base) && !has_data(index))
            event(e, E_UNATTRIBUTED, e->pending_vaddr, paddr, 0);
    } else if ((base | index) & POINTER && region != R_OTHER) {
        event(e, E_FORGED, e->pending_vaddr, paddr, base & POINTER ? base : index);
    }
}

static void check_address(struct engine *e, const struct rule *r)
{
    for (uint32_t i = 0; i < e->access_count; i++) {
        const struct access *a = &e->accesses[i];
        label base = e->base_label, index = e->index_label;
        if (r->kind == K_STRING && r->index < 16) { /* movs reads by its base and writes by its index */
            if (a->is_write) base = 0;
            else index = 0;
        }
        if (r->kind == K_GENERIC && r->bits & B_TWO_STRINGS) { /* cmps reads by rdi, then by rsi */
            if (i == 0) base = 0;
            else index = 0;
        }
        if (r->bits & (a->is_write ? B_PUSHES : B_POPS)) base = index = 0; /* the stack's, not the operand's */
        check_place(e, base, index, a->paddr);
        if (a->next) check_place(e, base, index, a->next);
    }
}

/* --- applying rules --------------------------------------------------------------------------------------- */

static uint64_t general(struct engine *e, uint32_t number)
{
    uint64_t value = 0;
    e->read_register(e->uc, e->register_numbers[number], &value);
    return value;
}

static inline void refresh_live(struct engine *e, uint32_t slot)
{
    if (slot >= GENERAL_BYTES) return;
    uint32_t number = slot / 8;
    label any = 0;
    for (uint32_t i = 0; i < 8; i++) any |= e->registers[number * 8 + i];
    if (any) e->live |= 1u << number;
    else e->live &= ~(1u << number);
}

/* What the address contributes to the data loaded through it: nothing if it is a pointer, of either side. */
static label through(struct engine *e)
{
    label base = e->base_label & POINTER ? 0 : e->base_label & ~TRUSTED;
    label index = e->index_label & POINTER ? 0 : e->index_label & ~TRUSTED;
    return (base | index) ? join(e, base, index) : 0;
}

static uint32_t read_memory(struct engine *e, label *out, uint32_t wanted)
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
    label address = through(e);
    if (address)
        for (uint32_t i = 0; i < wanted; i++) out[i] = join(e, out[i], address);
    return have;
}

static void write_memory(struct engine *e, const label *in, uint32_t size)
{
    uint32_t done = 0;
    static const label clean[MAX_WIDTH];
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

static void fetch(struct engine *e, uint8_t place, uint16_t slot, uint8_t size, label *out)
{
    if (place == O_REGISTER) memcpy(out, &e->registers[slot], size * sizeof(label));
    else if (place == O_MEMORY) read_memory(e, out, size);
    else {
        label l = place == O_SNAPSHOT_ADDRESS ? POINTER : 0;
        for (uint32_t i = 0; i < size; i++) out[i] = l;
    }
}

/* All of a value. A pointer is one as a whole: its parts, as numbers, are not. */
static label join_all(struct engine *e, const label *in, uint32_t size)
{
    label all = 0;
    for (uint32_t i = 0; i < size; i++)
        if (in[i] != all) all = join(e, all, in[i]);
    return (all & ~ADDRESS) | (size == 8 ? in[7] & ADDRESS : 0);
}

static int target_has_label(struct engine *e, const struct rule *r)
{
    if (r->target_place == O_REGISTER && r->target < GENERAL_BYTES) return e->live >> (r->target / 8) & 1;
    return 1;
}

static void put(struct engine *e, const struct rule *r, const label *in, uint32_t size)
{
    if (r->target_place == O_REGISTER) {
        memcpy(&e->registers[r->target], in, size * sizeof(label));
        if (size == 4 && r->target < GENERAL_BYTES) memset(&e->registers[r->target + 4], 0, 4 * sizeof(label));
        refresh_live(e, r->target);
    } else if (r->target_place == O_MEMORY) {
        write_memory(e, in, size);
    }
}

/* The result of arithmetic is a pointer of the snapshot's if an operand was and the value still looks like one. */
static label settle_pointer(struct engine *e, const struct rule *r, label all)
{
    if (!(all & POINTER)) return all;
    uint64_t value = 0;
    if (r->target_size == 8) {
        if (r->target_place == O_REGISTER && r->target < GENERAL_BYTES) value = general(e, r->target / 8);
        else if (r->target_place == O_MEMORY)
            for (uint32_t i = 0; i < e->access_count; i++)
                if (e->accesses[i].is_write) value = e->accesses[i].value;
    }
    return pointerish(e, value) ? all : all & ~POINTER;
}

static void apply_copy(struct engine *e, const struct rule *r)
{
    if (r->source_place == O_REGISTER && r->source < GENERAL_BYTES && !(e->live >> (r->source / 8) & 1) &&
        !target_has_label(e, r))
        return;
    label value[MAX_WIDTH];
    fetch(e, r->source_place, r->source, r->source_size, value);
    uint32_t size = r->source_size;
    if (r->target_size > size) {
        label fill = r->bits & B_SIGN_EXTENDS ? value[size - 1] & ~ADDRESS : 0;
        for (; size < r->target_size; size++) value[size] = fill;
    }
    if (r->bits & B_KEEPS_TARGET) { /* conditional: the values tell which it was, unless they are equal */
        uint64_t width = size_mask(r->target_size);
        uint64_t before = e->old_target & width, after = general(e, r->target / 8) & width;
        uint64_t offered = after;
        if (r->source_place == O_REGISTER) offered = r->source == r->target ? after : general(e, r->source / 8) & width;
        else
            for (uint32_t i = 0; i < e->access_count; i++)
                if (e->accesses[i].next || e->accesses[i].size <= left_in_page(e->accesses[i].paddr))
                    offered = value_at(e, &e->accesses[i], r->target_size);
        label *old = &e->registers[r->target];
        if (after != offered) memcpy(value, old, r->target_size * sizeof(label));
        else if (after == before)
            for (uint32_t i = 0; i < r->target_size; i++) value[i] = join(e, value[i], old[i]);
    }
    put(e, r, value, r->target_size);
}

static void apply_alu(struct engine *e, const struct rule *r)
{
    label value[MAX_WIDTH], all = 0;
    int is_static = r->bits & B_STATIC && !(r->bits & B_MEMORY); /* lea */
    int quick = r->source_place != O_MEMORY && r->second_place != O_MEMORY && r->source_place != O_SNAPSHOT_ADDRESS &&
                r->second_place != O_SNAPSHOT_ADDRESS && r->target_place != O_MEMORY && !is_static && !e->flags;
    if (quick && !(r->source_place == O_REGISTER && (e->live >> (r->source / 8) & 1)) &&
        !(r->second_place == O_REGISTER && (e->live >> (r->second / 8) & 1)) &&
        (r->target_place == O_NONE || !target_has_label(e, r)))
        return;
    fetch(e, r->source_place, r->source, r->source_size, value);
    all = join_all(e, value, r->source_size);
    if (r->second_place != O_NONE) {
        fetch(e, r->second_place, r->second, r->second_size, value);
        label first = all, second = join_all(e, value, r->second_size);
        all = join(e, first, second);
        if (r->bits & B_SUBTRACTS && second & POINTER && !(first & POINTER)) all = (all & ~POINTER) | DISTANCE;
        else if (cancel(first, second)) all &= ~ADDRESS;
    }
    if (is_static) all |= POINTER;
    if (r->bits & B_READS_FLAGS) all = join(e, all, e->flags);
    if (r->bits & B_WRITES_FLAGS) e->flags = all & ~ADDRESS;
    if (r->target_place == O_NONE) return;
    all = settle_pointer(e, r, all);
    for (uint32_t i = 0; i < r->target_size; i++) value[i] = all;
    put(e, r, value, r->target_size);
}

static void apply_bits(struct engine *e, const struct rule *r)
{
    label left[MAX_WIDTH], right[MAX_WIDTH], all = 0;
    if (r->source_place == O_REGISTER && r->second_place != O_MEMORY && !e->flags &&
        !(e->live >> (r->source / 8) & 1) &&
        !(r->second_place == O_REGISTER && e->live >> (r->second / 8) & 1) &&
        r->second_place != O_SNAPSHOT_ADDRESS && (r->target_place == O_NONE || !target_has_label(e, r)))
        return;
    fetch(e, r->source_place, r->source, r->source_size, left);
    fetch(e, r->second_place, r->second, r->source_size, right);
    for (uint32_t i = 0; i < r->source_size; i++) {
        left[i] = r->mask >> (8 * (i & 7)) & 0xff ? join(e, left[i], right[i]) & ~DISTANCE : 0;
        all = join(e, all, left[i]);
    }
    e->flags = all & ~POINTER;
    if (r->target_place == O_NONE) return;
    if (all & POINTER && !(settle_pointer(e, r, all) & POINTER))
        for (uint32_t i = 0; i < r->source_size; i++) left[i] &= ~POINTER;
    put(e, r, left, r->source_size);
}

static void apply_swap(struct engine *e, const struct rule *r)
{
    label target[MAX_WIDTH], source[MAX_WIDTH];
    uint32_t size = r->target_size;
    fetch(e, r->target_place, r->target, size, target);
    fetch(e, r->source_place, r->source, size, source);
    if (r->kind == K_ADDSWAP) {
        label all = join(e, join_all(e, target, size), join_all(e, source, size));
        e->flags = all & ~POINTER;
        all = settle_pointer(e, r, all);
        for (uint32_t i = 0; i < size; i++) source[i] = all;
    }
    put(e, r, source, size);
    memcpy(&e->registers[r->source], target, size * sizeof(label));
    if (size == 4) memset(&e->registers[r->source + 4], 0, 4 * sizeof(label));
    refresh_live(e, r->source);
}

/* cmpxchg: the target takes the source if it was what the accumulator holds; else the accumulator, which then
 * changes, takes the target. */
static void apply_compare_swap(struct engine *e, const struct rule *r)
{
    label target[MAX_WIDTH], source[MAX_WIDTH], *accumulator = e->registers;
    uint32_t size = r->target_size;
    fetch(e, r->target_place, r->target, size, target);
    fetch(e, r->source_place, r->source, size, source);
    e->flags = join(e, join_all(e, accumulator, size), join_all(e, target, size)) & ~POINTER;
    if (((general(e, 0) ^ e->old_target) & size_mask(size)) == 0) {
        put(e, r, source, size);
    } else {
        put(e, r, target, size);
        memcpy(accumulator, target, size * sizeof(label));
        if (size == 4) memset(accumulator + 4, 0, 4 * sizeof(label));
        refresh_live(e, 0);
    }
}

/* movs, stos, lods: one element an execution. scas and cmps are generic. */
static void apply_string(struct engine *e, const struct rule *r)
{
    if (!e->access_count) return; /* a count of 0 */
    label value[MAX_WIDTH];
    if (r->source_place == O_MEMORY) {
        if (r->index < 16) e->index_label = 0; /* where movs writes to */
        read_memory(e, value, r->source_size);
    } else {
        fetch(e, r->source_place, r->source, r->source_size, value);
    }
    put(e, r, value, r->source_size);
}

static void apply_generic(struct engine *e, const struct rule *r)
{
    if (r->bits & B_MEMORY && !e->access_count) return; /* cmps or scas with a count of 0 */
    label all = r->bits & B_READS_FLAGS ? e->flags : 0, value[MAX_WIDTH];
    for (uint32_t i = 0; i < 16; i++)
        if (r->reads >> i & 1 && e->live >> i & 1) all = join(e, all, join_all(e, &e->registers[i * 8], 8));
    for (uint32_t i = 0; i < 16; i++)
        if (r->reads >> (16 + i) & 1) all = join(e, all, join_all(e, &e->registers[GENERAL_BYTES + i * 16], 16));
    for (uint32_t i = 0; i < e->access_count; i++)
        if (!e->accesses[i].is_write) {
            uint32_t size = e->accesses[i].size > MAX_WIDTH ? MAX_WIDTH : e->accesses[i].size;
            load(e, &e->accesses[i], size, value);
            all = join(e, all, join_all(e, value, size));
        }
    if (e->access_count) all = join(e, all, through(e));
    all &= ~DISTANCE;
    if (r->bits & B_WRITES_FLAGS) e->flags = all & ~POINTER;
    for (uint32_t i = 0; i < 16; i++)
        if (r->writes >> i & 1) {
            label l = all & POINTER && !pointerish(e, general(e, i)) ? all & ~POINTER : all;
            for (uint32_t b = 0; b < 8; b++) e->registers[i * 8 + b] = l;
            if (l) e->live |= 1u << i;
            else e->live &= ~(1u << i);
        }
    for (uint32_t i = 0; i < 16; i++)
        if (r->writes >> (16 + i) & 1)
            for (uint32_t b = 0; b < 16; b++) e->registers[GENERAL_BYTES + i * 16 + b] = all & ~POINTER;
    for (uint32_t i = 0; i < MAX_WIDTH; i++) value[i] = all & ~POINTER;
    for (uint32_t i = 0; i < e->access_count; i++)
        if (e->accesses[i].is_write) {
            uint32_t size = e->accesses[i].size > MAX_WIDTH ? MAX_WIDTH : e->accesses[i].size;
            store(e, &e->accesses[i], size, value);
        }
}

/* A jump or call through a register or through memory must not lead home by the snapshot's word. */
static void apply_jump(struct engine *e, const struct rule *r)
{
    static const label clean[MAX_WIDTH];
    label value[MAX_WIDTH];
    if (r->source_place != O_NONE) {
        fetch(e, r->source_place, r->source, 8, value);
        if (value[7] & POINTER) {
            uint64_t target = 0;
            if (r->source_place == O_REGISTER) target = general(e, r->source / 8);
            else
                for (uint32_t i = 0; i < e->access_count; i++)
                    if (!e->accesses[i].is_write) /* no honest function pointer lies across the edge of a page */
                        target = left_in_page(e->accesses[i].paddr) < 8 ? e->home_text : word_at(e, e->accesses[i].paddr);
            if (is_trusted_vaddr(e, target)) event(e, E_FORGED, e->pending_vaddr, 0, value[7]);
        }
    }
    write_memory(e, clean, 8); /* a return address, made of nothing */
}

static void finish(struct engine *e)
{
    const struct rule *r = e->pending;
    if (!r) return;
    e->pending = 0;
    if (e->access_count) check_address(e, r);
    switch (r->kind) {
    case K_COPY: apply_copy(e, r); break;
    case K_CLEAR:
        if (r->target_place != O_REGISTER || target_has_label(e, r)) {
            static const label clean[MAX_WIDTH];
            put(e, r, clean, r->target_size);
        }
        if (r->bits & B_WRITES_FLAGS) e->flags = 0;
        break;
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
    if (r->bits & B_STATIC && r->bits & B_MEMORY && e->access_count && !e->accesses[0].is_write) {
        uint32_t slot = (uint32_t)(e->accesses[0].paddr >> 3) % STATIC_LOADS;
        e->static_loads[2 * slot] = e->accesses[0].paddr;
        e->static_loads[2 * slot + 1] = e->pending_vaddr;
    }
}

static void check_trampoline(struct engine *e, const struct rule *r, uint64_t vaddr)
{
    for (uint32_t i = 0; i < 16; i++)
        if (r->reads >> i & 1 && e->registers[i * 8 + 7] & POINTER) {
            label all = join_all(e, &e->registers[i * 8], 8);
            if (e->on_trampoline(vaddr, i, all)) {
                memset(&e->registers[i * 8], 0, 8 * sizeof(label));
                e->live &= ~(1u << i);
            } else if (!r->writes) {
                event(e, E_FORGED, vaddr, 0, all);
            }
        }
}

/* --- Unicorn's callbacks ---------------------------------------------------------------------------------- */

void on_instruction(void *uc, uint64_t vaddr, uint32_t size, struct engine *e)
{
    (void)uc, (void)size;
    finish(e);
    if (e->stopped) return;
    e->statistics.instructions++;
    uint64_t offset;
    uint32_t number = 0;
    int twin, known = is_code(e, vaddr, &twin, &offset);
    if (known) number = (twin ? e->twin_rules : e->home_rules)[offset];
    if (!number) {
        e->statistics.rules_missed++;
        if (known && e->on_miss(vaddr)) number = (twin ? e->twin_rules : e->home_rules)[offset];
        if (!number) {
            event(e, E_OUTSIDE, vaddr, 0, 0);
            return;
        }
    }
    e->statistics.twin_instructions += twin;
    const struct rule *r = &e->rules[number];
    if (r->kind == K_TRAMPOLINE) {
        e->statistics.trampolines++;
        if (r->reads & e->live) check_trampoline(e, r, vaddr);
        return;
    }
    e->pending = r;
    e->pending_vaddr = vaddr;
    e->access_count = 0;
    if (r->bits & B_KEEPS_TARGET && r->kind != K_ALU) e->old_target = general(e, r->kind == K_COMPARESWAP ? 0 : r->target / 8);
    if (r->bits & B_MEMORY) {
        e->base_label = r->base < 16 && e->live >> r->base & 1 ? join_all(e, &e->registers[r->base * 8], 8) : 0;
        e->index_label = r->index < 16 && e->live >> r->index & 1 ? join_all(e, &e->registers[r->index * 8], 8) : 0;
        if (r->bits & B_STATIC) { /* the registers only count from a static address */
            e->index_label = join(e, e->base_label, e->index_label) & ~ADDRESS;
            e->base_label = POINTER;
        } else if (cancel(e->base_label, e->index_label)) {
            e->base_label = e->index_label = 0;
        }
    } else {
        e->base_label = e->index_label = 0;
    }
}

void on_memory(void *uc, int type, uint64_t paddr, int size, int64_t value, struct engine *e)
{
    (void)uc;
    if (e->access_count < MAX_ACCESSES) {
        struct access *a = &e->accesses[e->access_count++];
        a->paddr = paddr;
        a->next = (uint32_t)size > left_in_page(paddr) ? e->on_split(e->pending_vaddr, paddr) : 0;
        if ((uint32_t)size > left_in_page(paddr) && !a->next) e->statistics.split++;
        a->value = (uint64_t)value;
        a->size = (uint32_t)size;
        a->is_write = type == 17; /* UC_MEM_WRITE */
    } else {
        e->statistics.split++;
    }
}

/* --- Python's calls --------------------------------------------------------------------------------------- */

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
    e->static_loads = calloc(STATIC_LOADS * 2, sizeof(uint64_t));
    e->rule_capacity = 4096;
    e->rule_count = 1;
    e->rules = calloc(e->rule_capacity, sizeof(struct rule));
    return e;
}

void engine_reset(struct engine *e)
{
    for (uint64_t i = 0; i < e->trusted_size / PAGE; i++) free(e->trusted_shadow[i]), e->trusted_shadow[i] = 0;
    for (uint64_t i = 0; i < e->user_size / PAGE; i++) free(e->user_shadow[i]), e->user_shadow[i] = 0;
    for (uint64_t i = 0; i < e->snapshot_capacity; i++) free(e->snapshot_shadow[i]);
    free(e->snapshot_keys);
    free(e->snapshot_shadow);
    e->snapshot_keys = 0;
    e->snapshot_shadow = 0;
    e->snapshot_capacity = e->snapshot_used = 0;
    if (e->node_count) {
        memset(e->node_hash, 0, NODE_HASH * sizeof(uint32_t));
        e->node_count = 0;
    }
    memset(e->registers, 0, sizeof e->registers);
    e->flags = 0;
    e->live = 0;
    e->pending = 0;
    e->event_count = 0;
    e->stopped = 0;
}

void engine_free(struct engine *e)
{
    if (!e) return;
    engine_reset(e);
    free(e->home_rules), free(e->twin_rules), free(e->trusted_shadow), free(e->user_shadow), free(e->nodes);
    free(e->node_hash), free(e->static_loads), free(e->rules), free(e->regions), free(e->areas);
    free(e);
}

int engine_regions(struct engine *e, const struct region_map *regions, uint32_t count)
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

uint32_t engine_add_rule(struct engine *e, const struct rule *rule)
{
    if (e->rule_count == e->rule_capacity) {
        uint64_t pending = e->pending ? (uint64_t)(e->pending - e->rules) : 0;
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

/* Before a call: registers hold nothing of the snapshot's, unless `seed`: then by their values. */
void engine_begin(struct engine *e, int seed)
{
    memset(e->registers, 0, sizeof e->registers);
    e->flags = 0;
    e->live = 0;
    e->pending = 0;
    e->access_count = 0;
    e->event_count = 0;
    e->stopped = 0;
    if (!seed) return;
    for (uint32_t i = 0; i < 16; i++) {
        uint64_t value = general(e, i);
        if (leads_to_snapshot(e, value)) {
            for (uint32_t b = 0; b < 8; b++) e->registers[i * 8 + b] = POINTER | SEEDED;
            e->live |= 1u << i;
        }
    }
}

void engine_finish(struct engine *e) { finish(e); }

/* The instruction under way did not end: it will run again. */
void engine_cancel(struct engine *e)
{
    e->pending = 0;
    e->access_count = 0;
}

void engine_clean(struct engine *e, uint64_t paddr, uint64_t size)
{
    static const label clean[PAGE];
    while (size) {
        uint64_t part = PAGE - paddr % PAGE;
        if (part > size) part = size;
        store_in_page(e, paddr, (uint32_t)part, clean);
        paddr += part;
        size -= part;
    }
}

void engine_labels(struct engine *e, uint64_t paddr, uint64_t size, label *out)
{
    while (size) {
        uint64_t part = PAGE - paddr % PAGE;
        if (part > size) part = size;
        load_in_page(e, paddr, (uint32_t)part, out);
        paddr += part;
        out += part;
        size -= part;
    }
}

uint32_t engine_node(struct engine *e, label node, label *left, label *right)
{
    uint64_t number = node & ~(FLAGS | NODE);
    if (number > e->node_count) return 0;
    *left = e->nodes[number].left;
    *right = e->nodes[number].right;
    return 1;
}

uint32_t engine_events(struct engine *e, struct event *out, uint32_t room)
{
    uint32_t count = e->event_count < room ? e->event_count : room;
    memcpy(out, e->events, count * sizeof *out);
    return count;
}

/* The static reference that last loaded the word at `paddr`; 0 if none is remembered. */
uint64_t engine_loaded_by(struct engine *e, uint64_t paddr)
{
    uint32_t slot = (uint32_t)(paddr >> 3) % STATIC_LOADS;
    return e->static_loads[2 * slot] == paddr ? e->static_loads[2 * slot + 1] : 0;
}
